"""The site's own Sphinx extension: mathematics, theme, live figures and API pages, all without a
foreign host."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from . import api, live, mathematics, theme


def digest() -> str:
    """A hash of this folder. Sphinx itself doesn't see that a style or a module has changed."""
    files = sorted(path for path in Path(__file__).parent.rglob("*") if path.is_file())
    whole = b"".join(path.read_bytes() for path in files if path.suffix != ".pyc")
    return hashlib.sha256(whole).hexdigest()


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("sitekit_digest", digest(), "env")  # another one: all pages anew
    mathematics.setup(app)
    theme.setup(app)
    live.setup(app)
    api.setup(app)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": False}
