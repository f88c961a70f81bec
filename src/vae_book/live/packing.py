"""Numbers and images as text, for the data of the live figures."""

from __future__ import annotations

import base64

import numpy as np
import torch
from torch import Tensor

__all__ = ["hex_images", "packed"]


def packed(values: Tensor | np.ndarray, dtype: str = "float32") -> str:
    """Numbers as text: their bytes (little-endian), in base64."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return base64.b64encode(array.astype(np.dtype(dtype).newbyteorder("<")).tobytes()).decode()


def hex_images(images: Tensor) -> str:
    """Grey images as text: a hexadecimal digit for each pixel, sixteen shades of ink.

    Shapes: ``images`` ``[N, D]``, values in [0, 1].
    """
    shades = (15 * images.detach().cpu().clamp(0, 1)).round().to(torch.int64).flatten().tolist()
    return "".join(map("0123456789abcdef".__getitem__, shades))
