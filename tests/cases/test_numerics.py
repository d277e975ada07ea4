"""Maps, decompositions and runs on degenerate content: constant, duplicate, empty, of low rank, tiny and huge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import lmm4rec
from lmm4rec.coldstart.fit_content_to_vectors import fit_content_to_vectors
from lmm4rec.coldstart.user_fold_in import UserFoldIn
from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.core.types import Embeddings
from lmm4rec.data.interactions import Interactions
from lmm4rec.nn.item_regression import ContentRegression
from lmm4rec.nn.least_squares import SparseRows, solve_rows
from lmm4rec.nn.linear_algebra import principal_axes, solve_positive
from lmm4rec.nn.projections import ContentProjection, center_of, centered

KINDS = ("random", "constant", "duplicates", "zeros", "rank one", "tiny", "huge", "one differs", "half empty")
kinds = st.sampled_from(KINDS)


def matrix(kind: str, rows: int, columns: int, seed: int, *, huge: float = 1e15) -> torch.Tensor:
    """A degenerate matrix of this kind."""
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    one_differs = x[:1].repeat(rows, 1)
    one_differs[0] += 1
    half_empty = x.clone()
    half_empty[::2] = 0
    return {
        "random": x,
        "constant": x[:1].repeat(rows, 1),
        "duplicates": x[: rows // 4].repeat(5, 1)[:rows],
        "zeros": torch.zeros(rows, columns),
        "rank one": x[:, :1] * x[:1],
        "tiny": x * 1e-18,
        "huge": x * huge,
        "one differs": one_differs,
        "half empty": half_empty,
    }[kind]


@pytest.mark.long
@settings(deadline=None, max_examples=40, derandomize=True)
@given(kinds, kinds, kinds, kinds, st.integers(0, 3))
def test_maps_of_degenerate_content_and_vectors_are_finite(
    image: str, text: str, users: str, items: str, seed: int
) -> None:
    n_users, n_items = 12, 20
    features = {"image": matrix(image, n_items, 30, seed), "text": matrix(text, n_items, 5, seed + 1)}
    scorer = Embeddings(matrix(users, n_users, 4, seed + 2, huge=1e6), matrix(items, n_items, 4, seed + 3, huge=1e6))
    rng = np.random.default_rng(seed)
    log = Interactions(
        rng.integers(0, n_users, 80).astype(np.int32),
        np.concatenate([np.arange(20), rng.integers(0, 20, 60)]).astype(np.int32),
    )
    maps = fit_content_to_vectors(scorer, features, log)
    if maps is not None:
        assert maps.weights.isfinite().all()
        assert maps.offset.isfinite().all()
        assert maps.profile is not None
        assert maps.profile.item_columns(maps.content(features)).isfinite().all()
    fold_in = UserFoldIn.of(scorer)
    assert fold_in(scorer.items[:3]).isfinite().all()
    regression = ContentRegression.of(features, 1e-6)
    assert regression.weights(torch.arange(4), features).isfinite().all()


@settings(deadline=None, max_examples=20, derandomize=True)
@given(kinds, st.floats(1e-30, 1e3), st.integers(0, 3))
def test_least_squares_against_degenerate_vectors_are_finite(kind: str, l2_weight: float, seed: int) -> None:
    vectors = matrix(kind, 20, 6, seed, huge=1e6)
    rows = torch.arange(10).repeat_interleave(9)
    columns = torch.cat([torch.randperm(20)[:9] for _ in range(10)])
    for entries in (slice(None), slice(None, None, 3)):  # more positives than dimensions, and fewer
        solution = torch.empty(10, 6)
        solve_rows(
            SparseRows(rows[entries], columns[entries], (10, 20)), vectors, solution, 0.1, torch.full((10,), l2_weight)
        )
        assert solution.isfinite().all()


def test_principal_axes_of_one_shared_image() -> None:
    """Gram matrices of low rank on which LAPACK's float32 divide and conquer does not converge."""
    x = torch.cat([matrix("constant", 60, 294, 0), torch.eye(60, 35), torch.zeros(60, 93)], dim=1)
    axes = principal_axes(x, 64)
    assert axes.shape == (422, 64)
    torch.testing.assert_close(axes.T @ axes, torch.eye(64), atol=1e-5, rtol=0)
    torch.testing.assert_close(x @ axes @ axes.T, x, atol=1e-3, rtol=1e-3)  # all of it lies in them


def test_singular_systems_are_solved_where_they_have_a_solution() -> None:
    x = torch.tensor([[1.0, 2.0], [2.0, 4.0]])
    solution = solve_positive(x, x @ torch.ones(2, 1))
    torch.testing.assert_close(x @ solution, x @ torch.ones(2, 1), rtol=1e-4, atol=1e-4)
    regular = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    assert solve_positive(regular, torch.ones(2, 1)).tolist() == [[0.5], [0.25]]


def test_items_with_one_shared_image_have_no_content_by_image() -> None:
    """Their differences from the mean are rounding errors, which scaling to length 1 would turn into content."""
    x = matrix("constant", 50, 8, 0)
    center = center_of(x)
    assert not centered(x, center).any()
    assert not ContentProjection(torch.ones(8, 2), center)(x).any()


def write_shop(folder: Path, kind: str, seed: int) -> dict[str, object]:
    """A shop of 16 items and 24 users with degenerate images and titles; returns the tables of a conf."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    grey = Image.new("RGB", (8, 8), (128, 128, 128))
    names = []
    for item in range(16):
        name = "none.png" if kind == "one image" or (kind == "one differs" and item) else f"{item}.png"
        pixels = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)) if kind == "random" else grey
        pixels.save(folder / name)
        names.append("" if kind == "no image but one" and item else name)
    same = kind in ("one title", "one image and title")
    titles = ["lamp" if same else f"{'red' if item % 2 else 'blue'} lamp {item % 5}" for item in range(16)]
    items = {"item_id": [str(i) for i in range(16)], "title": titles, "description": [""] * 16, "image": names}
    pl.DataFrame(items).write_csv(folder / "items.csv")
    log = [(f"u{user}", str(item)) for user in range(24) for item in rng.permutation(16)[:6]]
    pl.DataFrame(log, schema=["user_id", "item_id"], orient="row").write_csv(folder / "interactions.csv")
    return {
        "data": {"name": "table", "path": str(folder)},
        "encoder": {
            "name": "paired",
            "image": {"name": "color"},
            "text": {"name": "words", "text": "{title}", "dim": 8},
        },
        "train": {"epochs": 1},
    }


SHOPS = ("one image", "one title", "one image and title", "one differs", "no image but one")


def check_run(tables: dict[str, object], out: Path) -> None:
    """The run ends with a bundle that recommends and takes new items, with finite scores."""
    bundle = lmm4rec.run(tables, out=out).bundle()  # type: ignore[arg-type]
    assert all(np.isfinite(one.score) for one in bundle.recommend(["u0"], k=5)["u0"])


@pytest.mark.long
def test_a_run_on_one_shared_image_ends_with_a_bundle(tmp_path: Path) -> None:
    tables = write_shop(tmp_path / "shop", "one image", 0)
    check_run({**tables, "recommender": {"name": "vbpr", "dim": 4, "content_dim": 4}}, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", RECOMMENDERS.names())
@pytest.mark.parametrize("kind", SHOPS)
def test_every_model_on_degenerate_content_ends_with_a_bundle(name: str, kind: str, tmp_path: Path) -> None:
    check_run({**write_shop(tmp_path / "shop", kind, 1), "recommender": {"name": name}}, tmp_path / "run")
