"""Every test of this folder runs in one thread."""

from small import one_thread  # noqa: F401
