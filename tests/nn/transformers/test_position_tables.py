"""Positions for other image sizes, against an independent spline and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from torch.nn import functional as F

from lmm4rec.nn.transformers.position_tables import (
    bias_table_rows,
    image_bias_rows,
    resize_bias,
    resize_positions,
    text_bias_rows,
)


def test_the_same_size_changes_nothing() -> None:
    table = torch.randn(3 + 16, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resize_positions(table, extra=3, side=4), table)
    table = torch.randn(bias_table_rows(side=4, reach=9), 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resize_bias(table, before=4, side=4), table)


def test_positions_are_stretched_over_the_larger_square() -> None:
    """Each column of the table is an image, and is enlarged as one."""
    table = torch.randn(3 + 16, 5, generator=torch.Generator().manual_seed(0))
    larger = resize_positions(table, extra=3, side=6)
    assert torch.equal(larger[:3], table[:3])
    for column in range(5):
        expected = F.interpolate(table[None, None, 3:, column].reshape(1, 1, 4, 4), size=(6, 6), mode="bicubic")
        torch.testing.assert_close(larger[3:, column].reshape(6, 6), expected[0, 0])


def test_positions_that_are_no_square_are_refused() -> None:
    with pytest.raises(ValueError, match="15 positions are not a square"):
        resize_positions(torch.zeros(18, 2), extra=3, side=4)


@pytest.mark.parametrize(("before", "side"), [(4, 5), (14, 24), (7, 6)])
def test_biases_lie_on_a_cubic_spline_through_the_old_ones(before: int, side: int) -> None:
    """The same spline from another library routine: two passes in one dimension, not-a-knot at the ends."""
    width, wanted = 2 * before - 1, np.arange(-(side - 1), side)
    table = torch.randn(bias_table_rows(side=before, reach=5), 3, generator=torch.Generator().manual_seed(0))
    known = _known(before, side)
    resized = resize_bias(table, before=before, side=side)
    assert len(resized) == bias_table_rows(side=side, reach=5)
    assert torch.equal(resized[(2 * side - 1) ** 2 :], table[width**2 :])
    inside = np.clip(wanted, known[0], known[-1])
    for column in range(3):
        old = table[: width**2, column].double().numpy().reshape(width, width)
        once = CubicSpline(known, old, axis=0)(inside)
        expected = CubicSpline(known, once, axis=1)(inside)
        got = resized[: (2 * side - 1) ** 2, column].numpy().reshape(2 * side - 1, 2 * side - 1)
        # the official code finds q to 1e-6 by halving, and noise is steep: a change of q shows a hundredfold
        np.testing.assert_allclose(got, expected, atol=3e-4)


def _known(before: int, side: int) -> np.ndarray:
    """Offsets at distances 1, 1 + q, 1 + q + q², ...; q from 1.01 to 1.5 so that the last one is side - 1."""
    polynomial = np.ones(before - 1)
    polynomial[-1] -= side - 1
    real = [root.real for root in np.roots(polynomial) if abs(root.imag) < 1e-9 and root.real > 0]
    q = min(max(real[0], 1.01), 1.5)
    distances = np.cumsum(q ** np.arange(before - 1))
    return np.concatenate([-distances[::-1], [0], distances])


def test_a_bias_that_is_a_cubic_of_the_distance_stays_one() -> None:
    """By hand for 4 patches a side made 5: q = (√13 - 1) / 2, so the old offsets stand at 0, ±1, ±2.3028, ±4."""
    known = np.array([-4, -(1 + np.sqrt(13)) / 2, -1, 0, 1, (1 + np.sqrt(13)) / 2, 4])
    wanted = np.arange(-4, 5)

    def bias(down: np.ndarray, across: np.ndarray) -> np.ndarray:
        return 0.1 * down**3 - 0.2 * down * across + 0.05 * across**2 + 1

    old = torch.from_numpy(bias(known[:, None], known[None, :]).reshape(-1, 1)).float()
    resized = resize_bias(F.pad(old, (0, 0, 0, 7)), before=4, side=5)
    np.testing.assert_allclose(resized[:81, 0].numpy().reshape(9, 9), bias(wanted[:, None], wanted[None, :]), atol=1e-4)


def test_the_rows_of_two_by_two_patches_by_hand() -> None:
    """Offsets (down, across) of query from key, in rows of 3: 3 (down + 1) + across + 1; then the class token."""
    assert image_bias_rows(2).tolist() == [
        [11, 9, 9, 9, 9],
        [10, 4, 3, 1, 0],
        [10, 5, 4, 2, 1],
        [10, 7, 6, 4, 3],
        [10, 8, 7, 5, 4],
    ]  # fmt: skip


def test_the_rows_of_a_text_by_hand() -> None:
    """After 9 + 3 rows of the image and 2 across: key minus query plus reach - 2, the first token apart."""
    assert text_bias_rows(4, side=2, reach=5).tolist() == [
        [23, 21, 21, 21],
        [22, 17, 18, 19],
        [22, 16, 17, 18],
        [22, 15, 16, 17],
    ]
    assert bias_table_rows(side=2, reach=5) == 24
    assert bias_table_rows(side=14, reach=196) == 1126
