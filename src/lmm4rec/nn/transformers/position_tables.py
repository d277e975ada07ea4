"""Positions of tokens: tables for other image sizes, and the rows of relative positions."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from scipy.interpolate import RectBivariateSpline
from torch import Tensor
from torch.nn import functional as F

CLASS_ROWS = 3
"""Rows of a relative bias table for: class token to patch, patch to class token, class token to itself."""

CROSS_ROWS = 2
"""Rows of a relative bias table for: text to image, image to text."""


def square_side(cells: int) -> int | None:
    """The side of a square of this number of cells; None where there is none."""
    side = math.isqrt(max(cells, 0))
    return side if side > 0 and side * side == cells else None


def resize_positions(table: Float[Tensor, "rows dim"], *, extra: int, side: int) -> Float[Tensor, "_rows dim"]:
    """Absolute positions for a square of side x side patches, by bicubic interpolation; the first `extra` rows stay.

    Raises:
        ValueError: the other rows of the table are not a square.
    """
    before = square_side(len(table) - extra)
    if before is None:
        raise ValueError(f"{len(table) - extra} positions are not a square of patches")
    if before == side:
        return table
    grid = table[extra:].float().reshape(1, before, before, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([table[:extra], grid.permute(0, 2, 3, 1).flatten(0, 2).to(table.dtype)])


def resize_bias(table: Float[Tensor, "rows columns"], *, before: int, side: int) -> Float[Tensor, "_rows columns"]:
    """A relative bias table for a square of side x side patches instead of before x before.

    The first (2 before - 1)² rows are the patches' relative positions, row by row; all others stay. The new offsets
    are interpolated by a cubic spline through the old ones, which are placed at distances in geometric progression, so
    that the old table spans the new one and near neighbors keep their bias (BEiT, arXiv 2106.08254, official code).
    """
    if before == side:
        return table
    width = 2 * before - 1
    known, wanted = _old_offsets(before, side), np.arange(-(side - 1), side, dtype=np.float64)
    spatial, rest = table[: width**2], table[width**2 :]
    columns = [
        RectBivariateSpline(known, known, column.reshape(width, width))(wanted, wanted).reshape(-1)
        for column in spatial.T.double().numpy()
    ]
    return torch.cat([torch.from_numpy(np.stack(columns, axis=1)).to(table.dtype), rest])


def _old_offsets(before: int, side: int) -> Float64[np.ndarray, " offsets"]:
    """The places of the old offsets: distances 1, 1 + q, 1 + q + q², ... whose last one is `side` - 1."""
    left, right = 1.01, 1.5
    while right - left > 1e-6:
        q = (left + right) / 2
        if (1 - q ** (before - 1)) / (1 - q) > side - 1:
            right = q
        else:
            left = q
    distances = np.cumsum(q ** np.arange(before - 1))
    return np.concatenate([-distances[::-1], [0.0], distances])


def image_bias_rows(side: int) -> Int[Tensor, "tokens tokens"]:
    """The row of the bias table for each pair of an image's tokens, the class token first; query by key."""
    places = torch.from_numpy(np.stack(np.divmod(np.arange(side**2), side)))  # [2, patches]
    offset = places[:, :, None] - places[:, None, :] + side - 1
    rows = offset[0] * (2 * side - 1) + offset[1]
    return _with_class_token(rows, (2 * side - 1) ** 2)


def text_bias_rows(length: int, *, side: int, reach: int) -> Int[Tensor, "tokens tokens"]:
    """The row of the bias table for each pair of a text's tokens, the first token apart; query by key.

    `reach` is the text length of the table; its text rows come after those of the image and the two
    between image and text.
    """
    first = (2 * side - 1) ** 2 + CLASS_ROWS + CROSS_ROWS
    places = torch.from_numpy(np.arange(length - 1))
    rows = first + reach - 2 + places[None, :] - places[:, None]
    return _with_class_token(rows, first + 2 * reach - CLASS_ROWS)


def pair_bias_rows(
    text: Int[Tensor, "text text"], image: Int[Tensor, "image image"], *, side: int
) -> Int[Tensor, "tokens tokens"]:
    """The rows for a text followed by an image."""
    first = (2 * side - 1) ** 2 + CLASS_ROWS
    to_image, to_text = text.new_full((len(text), len(image)), first), text.new_full((len(image), len(text)), first + 1)
    return torch.cat([torch.cat([text, to_image], dim=1), torch.cat([to_text, image], dim=1)])


def bias_table_rows(*, side: int, reach: int) -> int:
    """The number of rows of a bias table: 1126 for 14 x 14 patches and a reach of 196 tokens."""
    return (2 * side - 1) ** 2 + CLASS_ROWS + CROSS_ROWS + 2 * reach


def _with_class_token(rows: Int[Tensor, "patches patches"], first: int) -> Int[Tensor, "tokens tokens"]:
    """The rows with a class token before all others, whose own rows begin at `first`."""
    whole = F.pad(rows, (1, 0, 1, 0))
    whole[0, :], whole[:, 0], whole[0, 0] = first, first + 1, first + 2
    return whole
