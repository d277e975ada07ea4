"""Rotated features: by hand, against NumPy's decomposition, and a ridge regression that does not change."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.features.rotation import leading_axes, read_axes, rotated, rotation_findings, save_axes


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_by_hand() -> None:
    """Squares 16, 9 and 1e-2 along three axes: two hold 0.999 of them, and the last item has nothing on these."""
    x = torch.tensor([[-3.0, 0.0, 0.0], [0.0, -4.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.1]])
    axes = leading_axes(x, 0.999)
    torch.testing.assert_close(axes @ axes.T, torch.diag(torch.tensor([1.0, 1.0, 0.0])))
    short = rotated({"image": x}, {"image": axes})["image"]
    torch.testing.assert_close(short @ short.T, torch.diag(torch.tensor([9.0, 16.0, 0.0, 0.0])))
    assert not short[2:].any()
    assert leading_axes(x, 0.5).shape == (3, 1)
    assert leading_axes(x, 1.0).shape == (3, 3)
    assert leading_axes(torch.zeros(4, 3), 0.99).shape == (3, 1)
    (note,) = rotation_findings({"image": x}, {"image": short})
    assert "image: 2 numbers an item after rotation, 3 before" in note.message
    assert f"hold {25 / 25.01:.4f} of the squared lengths, and at least 0.00 of each" in note.message


@pytest.mark.parametrize(("items", "width"), [(40, 12), (12, 40)])
def test_the_axes_span_the_leading_right_singular_vectors_and_each_holds_about_as_much(items: int, width: int) -> None:
    x = drawn(items, width) * torch.linspace(2, 0.1, width)
    axes = leading_axes(x, 0.8).double().numpy()
    _, values, vectors = np.linalg.svd(x.double().numpy(), full_matrices=False)
    held = np.cumsum(values**2) / (values**2).sum()
    assert held[axes.shape[1] - 2] < 0.8 <= held[axes.shape[1] - 1]
    leading = vectors[: axes.shape[1]]
    np.testing.assert_allclose(axes @ axes.T, leading.T @ leading, atol=1e-6)
    np.testing.assert_allclose(axes.T @ axes, np.eye(axes.shape[1]), atol=1e-6)
    squares = ((x.double().numpy() @ axes) ** 2).sum(0)
    assert squares.max() / squares.min() < 0.7 * (values[0] / values[axes.shape[1] - 1]) ** 2
    assert torch.equal(leading_axes(x, 0.8), leading_axes(x.clone(), 0.8))
    torch.testing.assert_close(leading_axes(x.flip(0), 0.8), leading_axes(x, 0.8), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("width", [12, 50])
def test_all_axes_keep_every_inner_product(width: int) -> None:
    x = drawn(30, width).index_fill(0, torch.tensor([4, 7]), 0.0)
    axes = leading_axes(x, 1.0)
    short = rotated({"text": x}, {"text": axes})["text"]
    assert axes.shape[1] == min(28, width)  # what the rows span
    torch.testing.assert_close(short @ short.T, x @ x.T, atol=1e-4, rtol=1e-5)
    assert not short[[4, 7]].any()


def test_a_linear_model_with_a_ridge_has_the_same_scores() -> None:
    """min |x W - y|² + 0.7 |W|² as least squares on stacked rows, before and after; a new item's scores as well."""
    x, y, new = drawn(20, 35).double().numpy(), drawn(20, 3, seed=1).double().numpy(), drawn(4, 20, seed=2).numpy()
    new = new @ x  # within what the catalog spans
    axes = {"image": leading_axes(torch.from_numpy(x), 1.0)}

    def scores(train: np.ndarray, at: np.ndarray) -> np.ndarray:
        rows = np.vstack([train, math.sqrt(0.7) * np.eye(train.shape[1])])
        fitted = np.linalg.lstsq(rows, np.vstack([y, np.zeros((train.shape[1], 3))]), rcond=None)[0]
        return np.asarray(at @ fitted)

    short, short_new = (rotated({"image": torch.from_numpy(side)}, axes)["image"].double().numpy() for side in (x, new))
    assert short.shape == (20, 20)
    np.testing.assert_allclose(scores(short, short), scores(x, x), atol=1e-5)
    np.testing.assert_allclose(scores(short, short_new), scores(x, new), atol=1e-4)


def test_axes_are_read_as_they_were_written_and_refuse_another_width(tmp_path: Path) -> None:
    axes = {"image": leading_axes(drawn(9, 6), 0.9), "text": leading_axes(drawn(9, 4, seed=1), 0.9)}
    save_axes(tmp_path / "axes.safetensors", axes)
    read = read_axes(tmp_path / "axes.safetensors")
    assert {m: torch.equal(read[m], x) for m, x in axes.items()} == {"image": True, "text": True}
    with pytest.raises(ConfigError, match="'text' are of vectors of 4 numbers and the encoder gives 5"):
        rotated({"image": drawn(9, 6), "text": drawn(9, 5)}, axes)
