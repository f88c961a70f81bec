"""The site's own Sphinx extension: mathematics, theme and API pages, all without a foreign host."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from . import api, mathematics, theme


def setup(app: Sphinx) -> dict[str, Any]:
    mathematics.setup(app)
    theme.setup(app)
    api.setup(app)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": False}
