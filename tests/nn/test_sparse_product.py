"""The compiled product of a sparse and a dense matrix: SciPy's in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

from lmm4rec.nn import sparse_product
from lmm4rec.nn.csr import csr_matrix
from lmm4rec.nn.sparse_product import product


@pytest.fixture(autouse=True)
def _compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(sparse_product, "_is_worth", lambda *_: True)


@pytest.fixture
def _threads(request: pytest.FixtureRequest) -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def matrix(entries_of_rows: list[int], columns: int, dtype: torch.dtype) -> tuple[torch.Tensor, scipy.sparse.csr_array]:
    rng = np.random.default_rng(0)
    starts = np.concatenate([[0], np.cumsum(entries_of_rows)])
    places = np.concatenate([np.sort(rng.permutation(columns)[:count]) for count in entries_of_rows])
    values = rng.standard_normal(len(places)).astype(np.float32)
    shape = (len(entries_of_rows), columns)
    ours = csr_matrix(torch.tensor(starts, dtype=dtype), torch.tensor(places, dtype=dtype), torch.tensor(values), shape)
    return ours, scipy.sparse.csr_array((values.astype(np.float64), places, starts), shape)


@pytest.mark.long
@pytest.mark.parametrize("_threads", [1, 3], indirect=True)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
@pytest.mark.parametrize("dim", [1, 7, 64])
@pytest.mark.usefixtures("_threads")
def test_it_is_scipys(dtype: torch.dtype, dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows without entries at both ends and in the middle, and rows of all remainders of four."""
    called, plain, compiled = [], sparse_product.weighted_sums, sparse_product._compiled_sums
    monkeypatch.setattr(sparse_product, "_compiled_sums", lambda: lambda *sides: called.append(1) or plain(*sides))
    ours, scipys = matrix([0, 0, 1, 2, 3, 4, 5, 0, 6, 7, 8, 11, 0], 12, dtype)
    dense = torch.randn(12, dim, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(product(ours, dense), scipys @ dense.double().numpy(), rtol=1e-5, atol=1e-5)
    threads = torch.get_num_threads()
    assert len(called) == (1 if threads == 1 else sparse_product._PIECES * threads)
    monkeypatch.setattr(sparse_product, "_compiled_sums", compiled)
    np.testing.assert_allclose(product(ours, dense), scipys @ dense.double().numpy(), rtol=1e-5, atol=1e-5)


def test_what_is_not_finite_stays_so() -> None:
    ours, scipys = matrix([4, 2, 1], 5, torch.int64)
    dense = torch.ones(5, 8)
    dense[ours.col_indices()[0]] = torch.nan
    dense[ours.col_indices()[4]] = torch.inf
    with np.errstate(invalid="ignore"):
        expected = scipys @ dense.double().numpy()
    assert not np.isfinite(expected).all()
    np.testing.assert_allclose(product(ours, dense), expected, rtol=1e-5)


def test_other_numbers_and_views_are_multiplied_too() -> None:
    ours, scipys = matrix([1, 3, 4], 5, torch.int64)
    wide = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(product(ours, wide[:, ::2]), scipys @ wide[:, ::2].double().numpy(), rtol=1e-5)
    double = csr_matrix(ours.crow_indices(), ours.col_indices(), ours.values().double(), (3, 5))
    np.testing.assert_allclose(product(double, wide.double()), scipys @ wide.double().numpy(), rtol=1e-12)


def test_sizes_say_when_it_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many columns, or a dense matrix beyond the cache; and in both cases enough multiplications."""
    monkeypatch.undo()
    monkeypatch.setattr(sparse_product, "_LARGE", 500)
    monkeypatch.setattr(sparse_product, "_BEYOND_CACHE", 4 * 5 * 80)
    ours, _ = matrix([1, 3, 4], 5, torch.int64)
    worth = [columns for columns in (62, 63, 79, 80, 96) if sparse_product._is_worth(ours, torch.empty(5, columns))]
    narrow = [columns for columns in (95, 96) if sparse_product._is_worth(ours, torch.empty(4, columns).half())]
    assert (worth, narrow) == ([80, 96], [96])
