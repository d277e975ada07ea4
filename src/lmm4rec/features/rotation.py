"""Rotation of frozen features: their coordinates on the axes that hold most of the catalog's features.

A linear map of features under an l2 penalty on its weights does not change when the features are rotated, and axes that
hold nearly nothing can be left out: vectors of thousands of numbers become shorter. Nothing is centered, so that a row
of zeros, an item that lacks the modality, stays one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.tensor_files import read_tensors, save_tensors
from lmm4rec.core.types import Features, Modality
from lmm4rec.data.findings import Finding
from lmm4rec.nn.linear_algebra import eigenvectors
from lmm4rec.nn.projections import on_axes

Axes: TypeAlias = Mapping[Modality, Float[Tensor, "_width _axes"]]
"""Orthonormal columns by modality."""

_BLOCK = 1024  # rows that are copied to float64 or float32 at a time
_ROUNDING = 1e-12  # of the spectrum, which float64 leaves of nothing


def leading_axes(x: Float[Tensor, "items width"], share: float) -> Float[Tensor, "width axes"]:
    """Orthonormal axes of the fewest right singular vectors that hold a share of the sum of squared singular values.

    These are eigenvectors of xᵀx in float64, each with its largest entry positive, and are turned by a seeded rotation
    in the space that they span: every axis then holds about as much. On the singular vectors themselves, Adam would
    fit those that hold least as fast as the first ones.
    """
    gram = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    for block in torch.split(x, _BLOCK):
        wide = block.double()
        gram.addmm_(wide.T, wide)
    values, vectors = (side.flip(-1) for side in eigenvectors(gram))
    left = values.sum() - values.cumsum(0)
    count = 1 + int((left > (1 - share + _ROUNDING) * values.sum()).sum())
    leading = vectors[:, :count]
    signs = leading.gather(0, leading.abs().argmax(0, keepdim=True)).sign()
    return (leading * signs @ _rotation(count)).float()


def rotated(features: Features, axes: Axes) -> Features:
    """The coordinates of features on the axes of their modality, in float32.

    Raises:
        ConfigError: the axes are of features of another width.
    """
    for modality, x in features.items():
        if len(axes[modality]) != x.shape[1]:
            raise ConfigError(
                f"the axes of '{modality}' are of vectors of {len(axes[modality]):,} numbers and the encoder gives "
                f"{x.shape[1]:,}: keep the keys of [encoder], or leave train.start_from out"
            )
    return {m: torch.cat([on_axes(block, axes[m]) for block in torch.split(x, _BLOCK)]) for m, x in features.items()}


def rotation_findings(features: Features, short: Features) -> tuple[Finding, ...]:
    """A note for each modality on the widths and on what the coordinates hold."""
    notes = []
    for modality, x in features.items():
        whole, kept = (_squares(side) for side in (x, short[modality]))
        least = (kept[whole > 0] / whole[whole > 0]).min().item() if whole.any() else 1.0
        held = (kept.sum() / whole.sum().clamp(min=1e-300)).item()
        message = (
            f"{modality}: {short[modality].shape[1]:,} numbers an item after rotation, {x.shape[1]:,} before; they "
            f"hold {held:.4f} of the squared lengths, and at least {least:.2f} of each item's"
        )
        notes.append(Finding("rotated-features", "note", len(x), message))
    return tuple(notes)


def save_axes(path: Path, axes: Axes) -> None:
    """Write axes, which `read_axes` reads."""
    save_tensors(path, axes)


def read_axes(path: Path) -> Axes:
    """The axes in a file.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    return read_tensors(path)[0]


def _rotation(size: int) -> Float[Tensor, "size size"]:
    """A seeded random orthogonal matrix (the Q of a Gaussian one, whose R has a positive diagonal)."""
    gaussian = torch.randn(size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    return q * r.diagonal().sign()


def _squares(x: Float[Tensor, "items width"]) -> Float[Tensor, " items"]:
    return torch.cat([block.double().square().sum(1) for block in torch.split(x, _BLOCK)])
