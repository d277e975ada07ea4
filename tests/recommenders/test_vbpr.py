"""VBPR without ids: scores beside the paper's equation, and new items by the model's own maps alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import ITEMS, USERS, features, graph, number

from lmm4rec.coldstart.fit_content_to_vectors import fit_content_to_vectors
from lmm4rec.data.interactions import Interactions
from lmm4rec.recommenders.vbpr import VBPR
from lmm4rec.testing import check_recommender, recommender_contracts
from lmm4rec.testing.worlds import camp_features, camps


def test_scores_are_those_of_the_contents_alone() -> None:
    model = VBPR(graph(), features(), torch.Generator().manual_seed(0), content_dim=3, ids=False, normalize=False)
    weights, expected = number(model), np.zeros((USERS, ITEMS))
    for modality, x in features().items():
        projected = x.double().numpy() @ weights[f"projections.{modality}"]
        expected += weights[f"tastes.{modality}"] @ projected[:, :-1].T + projected[:, -1]
    assert set(weights) == {f"{name}.{m}" for name in ("projections", "tastes") for m in features()}
    scorer = model.embed(features())
    np.testing.assert_allclose(scorer.scores(torch.arange(USERS)).detach().numpy(), expected, atol=1e-5)
    assert list(scorer.parts) == list(features())


@pytest.mark.long
@pytest.mark.parametrize("contract", [name for name in recommender_contracts(VBPR, ids=False) if "copes" not in name])
def test_without_ids_it_keeps_the_contracts(contract: str) -> None:
    """But for items without content, which are all the same."""
    check_recommender(VBPR, contract=contract, ids=False)


def test_a_new_item_has_the_vector_of_a_known_one_with_its_content() -> None:
    (on, _), x = camps(), camp_features(torch.Generator().manual_seed(0))
    model = VBPR(on, x, torch.Generator().manual_seed(1), ids=False)
    scorer, log = (
        model.embed(x).detach(),
        Interactions(*(side.numpy().astype(np.int32) for side in (on.users, on.items))),
    )
    maps = fit_content_to_vectors(scorer, x, log, model.content_projections())
    assert maps is not None
    assert maps.profile is None
    vectors = maps.vectors({modality: rows[3:5] for modality, rows in x.items()}, scorer, {})
    torch.testing.assert_close(vectors, scorer.items[3:5], atol=1e-6, rtol=1e-5)
