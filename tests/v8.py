"""The scripts of the live figures in V8, without a browser, for their arithmetic."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

LIVE = Path(__file__).resolve().parents[1] / "src/vae_book/live"
BASE64 = """
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const atob = text => {
  if ([...text].some(c => c !== "=" && !LETTERS.includes(c))) throw new Error("no base64");
  const bits = [...text].filter(c => c !== "=").map(c => LETTERS.indexOf(c));
  const bytes = [];
  for (let i = 0; i + 1 < bits.length; i += 4) {
    const [a, b, c = 0, d = 0] = bits.slice(i, i + 4);
    bytes.push((a << 2 | b >> 4) & 255, (b << 4 | c >> 2) & 255, (c << 6 | d) & 255);
  }
  return bytes.slice(0, Math.floor(bits.length * 6 / 8)).map(b => String.fromCharCode(b)).join("");
};
const btoa = text => {
  let base64 = "";
  for (let i = 0; i < text.length; i += 3) {
    const [a, b = 0, c = 0] = [...text.slice(i, i + 3)].map(letter => letter.charCodeAt(0));
    const sextets = [a >> 2, (a & 3) << 4 | b >> 4, (b & 15) << 2 | c >> 6, c & 63];
    base64 += sextets.map((k, at) => at <= text.length - i ? LETTERS[k] : "=").join("");
  }
  return base64;
};
"""


@contextmanager
def scripts(*figures: str) -> Iterator:
    """V8 with the shared parts and the named figures; ``.call`` and ``.eval`` ask it things."""
    racer = pytest.importorskip("py_mini_racer", reason="mini-racer is not installed")
    with racer.MiniRacer() as v8:
        for text in (BASE64, *((LIVE / f"{name}.js").read_text() for name in ("parts", *figures))):
            v8.eval(text)
        yield v8


def unpacked(text: str, dtype: str = "<f4") -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)
