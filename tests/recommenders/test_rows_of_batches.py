"""Graph models compute the same losses and gradients from some rows of their products as from whole products."""

from __future__ import annotations

import pytest
import torch
from small import batch, features, graph, number

from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.nn import sparse

MODELS = [
    "bm3",
    "damrs",
    "dragon",
    "dualgnn",
    "freedom",
    "gume",
    "lattice",
    "layergcn",
    "lightgcn",
    "mgcn",
    "mmgcf",
    "pgl",
    "selfcf",
    "smore",
]


@pytest.mark.parametrize("name", MODELS)
def test_losses_and_gradients_are_those_of_whole_products(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, picked = [], []
    rows_of = sparse.rows_of
    monkeypatch.setattr(sparse, "rows_of", lambda *sides: picked.append(1) or rows_of(*sides))
    for worth in (-1.0, 1.0):
        monkeypatch.setattr(sparse, "_WORTH", worth)
        assert not picked
        model = RECOMMENDERS.get(name)(graph(), features(), torch.Generator().manual_seed(0), dim=4)
        number(model)
        generator = torch.Generator().manual_seed(1)
        model.begin_epoch(features(), generator)
        losses = model.losses(batch(), features(), generator)
        torch.stack(list(losses.values())).sum().backward()
        gradients = {key: weight.grad for key, weight in model.named_parameters()}
        found.append({**losses, **{f"gradient of {key}": one for key, one in gradients.items() if one is not None}})
    assert picked
    torch.testing.assert_close(found[1], found[0])
