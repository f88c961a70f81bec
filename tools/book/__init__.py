"""The tools that keep the book's notebooks: pair, execute, compare and check them.

A page of the book is a notebook if the front matter of its ``.md`` has a ``jupytext`` block. The
``.md`` is the source; the ``.ipynb`` next to it holds the same cells and the outputs that
``execute`` stored, with a stamp in its metadata that says of which code and data they are.
"""
