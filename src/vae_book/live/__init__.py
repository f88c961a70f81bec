"""Live figures: to be dragged on the page, without a kernel; in a notebook, a widget."""

from vae_book.live.bound import bound_at_work
from vae_book.live.explorer import explore
from vae_book.live.flow import flow_slider
from vae_book.live.kl import kl_playground
from vae_book.live.page import LiveFigure, has_live_front_end
from vae_book.live.playground import vae_playground
from vae_book.live.scrubber import Watch, scrubber
from vae_book.live.weight import weight_slider

__all__ = [
    "LiveFigure",
    "Watch",
    "bound_at_work",
    "explore",
    "flow_slider",
    "has_live_front_end",
    "kl_playground",
    "scrubber",
    "vae_playground",
    "weight_slider",
]
