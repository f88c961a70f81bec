"""Weights and checkpoints on disk: safetensors files, written whole or not at all.

Nothing is ever unpickled, so a file from somewhere else can't run code.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from vae_core.devices import pick_device

__all__ = ["WeightsError", "load_weights", "save_weights"]


class WeightsError(ValueError):
    """A file that isn't whole, isn't a safetensors file, or belongs to another model."""


def save_weights(model: nn.Module, path: str | Path) -> None:
    """Write the model's weights to a safetensors file.

    The file is complete or isn't there: if writing fails (a full disk), the file that was there
    before stays as it was.

    Layers may share a tensor; the file then has it under each of its names.

    Raises: OSError that names the file, where it can't be written.
    """
    write_tensors(path, dict(model.state_dict()), {"content": "weights"})


def load_weights(
    model: nn.Module, path: str | Path, *, device: str | torch.device | None = None
) -> None:
    """Fill the model with the weights of a file, on whatever device they were saved.

    The model stays where it is, or moves to ``device``. Everything is checked before the first
    weight changes.

    Raises: FileNotFoundError; ``WeightsError`` for a file that is damaged, is no safetensors file,
    holds other names or shapes than the model, or NaN.
    """
    chosen = None if device is None else pick_device(device)
    tensors, about = read_tensors(path)
    if about.get("content") == "checkpoint":
        raise WeightsError(f"{path}: expected weights, got a checkpoint of fit (resume it there)")
    fill(model, tensors, path)
    if chosen is not None:
        model.to(chosen)


def fill(model: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> None:
    """Copy tensors into a model, all or none; they must have its names and shapes, no NaN."""
    own = model.state_dict()
    differences = [f"{name} is missing" for name in own if name not in tensors]
    differences += [f"{name} isn't the model's" for name in tensors if name not in own]
    for name in own.keys() & tensors.keys():
        if own[name].shape != tensors[name].shape:
            there, here = tuple(tensors[name].shape), tuple(own[name].shape)
            differences.append(f"{name} has shape {there}, the model's has {here}")
    if differences:
        raise WeightsError(f"{path}: weights of another model: {'; '.join(sorted(differences))}")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsError(f"{path}: {name} has NaN or infinite values")
    model.load_state_dict(tensors)


def write_tensors(path: str | Path, tensors: dict[str, Tensor], about: dict[str, str]) -> None:
    """Write a safetensors file under another name, and rename it when it is complete."""
    from safetensors.torch import save

    path = Path(path)
    # Copies, because safetensors refuses tensors that share their memory (tied weights).
    copies = {
        name: t.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, t in tensors.items()
    }
    content = save(copies, about)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise type(error)(error.errno, f"could not write {path}: {error.strerror}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, on the CPU, and what it says about itself."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            # Copies, because the tensors are windows on the file, which may change.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged, or no safetensors file: {error}") from error


def _umask() -> int:
    """The process's mask for new files (a temporary file is readable by its owner only)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
