"""What training and estimates run on: rows that were looked at once, and batches of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vae_core.images import as_condition, as_numbers, check_images, draw_binary, to_rows


class Data:
    """Images, or rows of another kind, and their conditions: looked at once, then on a device.

    ``data[numbers]`` is a batch as a loss takes it: pixel values, whole numbers as int64, others
    in the type of the model's weights; and the conditions, if there are any.
    """

    def __init__(
        self, model: nn.Module, rows: object, condition: object, name: str, redraw: bool = False
    ):
        n_pixels, self.like = getattr(model, "n_pixels", None), next(model.parameters())
        self.are_images, self.redraw = n_pixels is not None, redraw
        if self.are_images:
            unit_interval = getattr(model, "unit_interval", True)
            rows = check_images(rows, n_pixels=n_pixels, name=name, unit_interval=unit_interval)
            rows = rows.flatten(start_dim=1)
        elif redraw:
            raise ValueError("redraw: expected False for a model without n_pixels, got True")
        else:
            rows = as_numbers(rows, name)
            _check_finite(rows, name)
        if len(rows) == 0:
            raise ValueError(f"{name}: expected at least 1 image, got 0")
        self.rows, self.condition = rows.detach(), None
        self.about = {name: self.rows}
        if condition is not None:
            self.condition = as_condition(condition, len(rows), self.like).detach()
            _check_finite(self.condition, "condition")
            self.about[f"condition of {name}"] = self.condition

    def __len__(self) -> int:
        return len(self.rows)

    def check_condition(self, model: nn.Module) -> None:
        """Let the parts of a model that know which conditions they take look at all of them."""
        for module in model.modules():
            if hasattr(module, "check_condition"):  # such as OneHotCondition
                module.check_condition(self.condition)

    @property
    def numbers(self) -> Tensor:
        """All of them, in order, on the device."""
        return torch.arange(len(self), device=self.rows.device)

    def to(self, device: torch.device) -> None:
        """Move everything there, once."""
        self.rows = self.rows.to(device)
        if self.condition is not None:
            self.condition = self.condition.to(device)

    def __getitem__(self, numbers: Tensor) -> tuple[Tensor, ...]:
        rows, dtype = self.rows.index_select(0, numbers), self.like.dtype
        if self.redraw:
            x = draw_binary(rows).to(dtype)
        elif self.are_images:
            x = to_rows(rows, dtype)
        else:
            x = rows.to(dtype if rows.is_floating_point() else torch.int64)
        if self.condition is None:
            return (x,)
        return x, self.condition.index_select(0, numbers)


def _check_finite(values: Tensor, name: str) -> None:
    if not values.isfinite().all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
