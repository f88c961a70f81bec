"""Weights on disk: safetensors files, written whole or not at all.

Nothing is unpickled, so a file from somewhere else can't run code.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from vae_core.devices import pick_device

__all__ = ["WeightsError", "load_weights", "save_weights"]


class WeightsError(ValueError):
    """A file that isn't whole, isn't of the expected kind, or belongs to another model."""


def save_weights(model: nn.Module, path: str | Path) -> None:
    """Write the model's weights to a safetensors file.

    The file is complete or isn't there: if writing fails (a full disk), the file that was there
    before stays as it was. Layers may share a tensor; the file has it under each of its names.

    Raises: OSError that names the file, where it can't be written.
    """
    from safetensors.torch import save

    # Copies, because safetensors refuses tensors that share their memory (tied weights).
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    write_whole(path, save(copies, {"content": "weights"}))


def load_weights(
    model: nn.Module, path: str | Path, *, device: str | torch.device | None = None
) -> None:
    """Fill the model with the weights of a file, on whatever device they were saved.

    The model stays where it is, or moves to ``device``. Everything is checked before the first
    weight changes.

    Raises: FileNotFoundError; ``WeightsError`` for a file that is damaged, is no safetensors file,
    holds other names or shapes than the model, or NaN.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    chosen = None if device is None else pick_device(device)
    try:
        tensors = load(Path(path).read_bytes())
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged, or no safetensors file: {error}") from error
    check_fits(model, tensors, path)
    model.load_state_dict(tensors)
    if chosen is not None:
        model.to(chosen)


def check_fits(model: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> None:
    """Tensors from a file must have the model's names and shapes, and be finite as its own are."""
    own = model.state_dict()
    differences = [f"{name} is missing" for name in own if name not in tensors]
    differences += [f"{name} isn't the model's" for name in tensors if name not in own]
    for name in own.keys() & tensors.keys():
        if getattr(own[name], "shape", None) != getattr(tensors[name], "shape", None):
            there, here = tuple(tensors[name].shape), tuple(own[name].shape)
            differences.append(f"{name} has shape {there}, the model's has {here}")
    if differences:
        raise WeightsError(f"{path}: weights of another model: {'; '.join(sorted(differences))}")
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or not own[name].isfinite().all():
            continue  # a mask of −∞, for instance
        if not tensor.isfinite().all():
            raise WeightsError(f"{path}: {name} has NaN or infinite values")


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file under another name, and rename it when it is complete."""
    path = Path(path)
    part = path.with_name(f".{path.name}-{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        raise type(error)(error.errno, f"could not write {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):  # it is gone where all went well
            part.unlink()
