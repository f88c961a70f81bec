"""Live figures: to be dragged on the page, without a kernel; in a notebook, a widget."""

from vae_book.live.explorer import explore
from vae_book.live.page import LiveFigure, has_live_front_end
from vae_book.live.scrubber import Watch, scrubber

__all__ = ["LiveFigure", "Watch", "explore", "has_live_front_end", "scrubber"]
