"""The live figures as widgets of a running notebook: the page's scripts in an ES module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import torch
import traitlets
from torch import Tensor

from vae_book.live.packing import packed

FOLDER = Path(__file__).parent


class LiveWidget(anywidget.AnyWidget):
    """A live figure in a notebook; where its script asks, ``decode`` answers."""

    _css = (FOLDER / "live.css").read_text(encoding="utf-8")
    figure = traitlets.Unicode().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)
    room = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        figure: str,
        data: Mapping[str, Any],
        *,
        room: str = "",
        decode: Callable[[Tensor], Tensor] | None = None,
        needs: Sequence[str] = (),
    ) -> None:
        names = ("parts", *needs, figure, "widget")
        scripts = [(FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in names]
        self.decode = decode
        super().__init__(_esm="\n".join(scripts), figure=figure, data=dict(data), room=room)
        self.on_msg(self.answer)

    def answer(self, widget: Any, content: dict, buffers: list) -> None:
        """Send the images of the codes in a message, or what went wrong."""
        try:
            images = self.decode(torch.tensor(content["codes"], dtype=torch.float32))
        except Exception as error:  # the figure shows it; a traceback would be seen by nobody
            self.send({"id": content.get("id"), "error": f"{type(error).__name__}: {error}"})
            return
        values = (255 * images.clamp(0, 1)).round()
        self.send({"id": content["id"], "images": packed(values, "uint8")})
