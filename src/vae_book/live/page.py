"""A live figure in its three forms: on a page of the site, as a widget, as a picture.

How it looks and moves stands in one script a figure, beside this module. On the site a small
element names the figure, the scripts come with the site, and the data are in
``book/live/NAME.js``. In a notebook whose kernel runs, the same scripts and data make a widget.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LiveFigure", "has_live_front_end"]

WIDGETS = "VAE_CORE_WIDGETS"
PUBLISH = "VAE_CORE_LIVE"  # the folder for the data; only `make execute` sets it
NAME = re.compile(r"[a-z][a-z0-9_]*")


class LiveFigure:
    """A live figure and the picture that stands for it where nothing can be moved.

    ``figure`` names the script, ``needs`` those it builds on. ``data`` is what the script is given:
    plain numbers, strings, lists and dictionaries, all numbers finite. ``name`` is that of the
    data's file on the site; a figure without one is a picture there, and so is one without
    ``data``. ``decode`` answers, in a notebook, where the script can't decode by itself: from codes
    ``[N, d]`` to images ``[N, D]``. ``room`` sets what the style sheet needs to know to keep the
    figure's room on the page before it is there, such as ``--units: 8``. ``slow`` makes more data,
    which the script can do without: it is called only when the data are written for the site.

    Displayed in a running notebook, it is a widget; elsewhere its picture, and an element that the
    site's scripts put the figure in.

    Raises: ValueError for a name that isn't one of a file (small letters, digits, _), or data that
    aren't finite.
    """

    def __init__(
        self,
        figure: str,
        data: Mapping[str, Any] | None,
        picture: Figure,
        *,
        name: str | None = None,
        decode: Callable[[Tensor], Tensor] | None = None,
        room: str | None = None,
        slow: Callable[[], Mapping[str, Any]] | None = None,
        needs: Sequence[str] = (),
    ) -> None:
        if name is not None and not NAME.fullmatch(name):
            raise ValueError(
                f"name: expected small letters, digits and _, such as my_plane, got {name!r}"
            )
        self.figure, self.data, self.picture = figure, data, picture
        self.name, self.decode, self.room, self.slow = name, decode, room, slow
        self.needs = needs
        json.dumps(data, allow_nan=False)  # what can't be written is found here

    def __repr__(self) -> str:
        return f"LiveFigure({self.figure!r}, name={self.name!r})"

    def html(self) -> str:
        """The element for the site's scripts. It says nothing that was measured."""
        name = f' data-name="{self.name}"' if self.data else ""
        needs = f' data-needs="{" ".join(self.needs)}"' if self.needs else ""
        room = f' style="{self.room}"' if self.room else ""
        return f'<div class="live" data-figure="{self.figure}"{name}{needs}{room}><div></div></div>'

    def publish(self, folder: Path) -> None:
        """Write the data for the site, whole or not at all."""
        data = {**self.data, **(self.slow() if self.slow else {})}
        text = json.dumps(data, allow_nan=False, ensure_ascii=False)
        path = folder / f"{self.name}.js"
        part = path.with_name(path.name + ".part")
        part.write_text(f'vaeLive.data["{self.name}"] = {text};\n', encoding="utf-8")
        os.replace(part, path)

    def widget(self) -> Any:
        """The figure as a widget of a running notebook (an ``anywidget``)."""
        from vae_book.live.widget import LiveWidget

        return LiveWidget(
            self.figure,
            self.data or {},
            room=self.room or "",
            decode=self.decode,
            needs=self.needs,
        )

    def _ipython_display_(self) -> None:
        from IPython.core.pylabtools import print_figure
        from IPython.display import HTML, display

        if self.data is not None and has_live_front_end():
            # With the picture, for whoever looks at the saved notebook.
            data, metadata = self.widget()._repr_mimebundle_()
            data["image/png"] = print_figure(self.picture, base64=True)
            display(data, metadata=metadata, raw=True)
            return
        display(self.picture)
        if self.data is None or (self.data and self.name is None):
            return
        if self.data and (folder := os.environ.get(PUBLISH)):
            self.publish(Path(folder))
        display(HTML(self.html()))


def has_live_front_end(
    environ: Mapping[str, str] | None = None, modules: Mapping[str, object] | None = None
) -> bool:
    """True if a live front end is attached, where somebody could drag something.

    ``$VAE_CORE_WIDGETS`` answers where it is set, 1 for yes and 0 for no. Else the answer is yes
    only with evidence: a kernel that a Jupyter server started for a notebook (its variable
    ``JPY_SESSION_NAME``), Colab's package, or a variable of VS Code's (``VSCODE_CWD`` too, for on a
    remote machine there is no ``VSCODE_PID``). A notebook executed by nbconvert, nbclient or a test
    has none of them.

    ``environ`` and ``modules`` stand for ``os.environ`` and ``sys.modules`` in tests.

    Raises: ValueError where the variable holds something else.
    """
    environ = os.environ if environ is None else environ
    modules = sys.modules if modules is None else modules
    switch = environ.get(WIDGETS, "")
    if switch not in ("", "0", "1"):
        raise ValueError(f"{WIDGETS}: expected 0 or 1, got {switch!r}")
    if switch:
        return switch == "1"
    if "ipykernel" not in modules:
        return False
    evidence = {"JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD"}
    return bool(evidence & environ.keys() or "google.colab" in modules)
