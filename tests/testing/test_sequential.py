"""A model in which the order of interactions counts keeps the contracts, where it declares so."""

from __future__ import annotations

import pytest
import torch

from lmm4rec.core.types import Embeddings, Features
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.base import Recommender
from lmm4rec.testing import BrokenContractError, check_recommender, recommender_contracts

PERMUTED = "permuted_items_have_permuted_scores"


class Recent(Recommender):
    """score(u, i) = sum over the items j of user u of decay^(interactions of u after j) · n(j, i); n counts users."""

    is_trained = False
    sequential = True

    def __init__(
        self, graph: InteractionGraph, features: Features, generator: torch.Generator, *, decay: float = 0.5
    ) -> None:
        super().__init__(graph)
        self.decay = decay

    def embed(self, features: Features) -> Embeddings:
        graph = self.graph
        last = graph.user_degrees.cumsum(0) - 1
        seen = torch.zeros(graph.n_users, graph.n_items)
        seen[graph.users, graph.items] = 1.0
        recent = seen.clone()
        recent[graph.users, graph.items] = self.decay ** (last[graph.users] - torch.arange(len(graph.users)))
        return Embeddings(recent, seen.T @ seen)


class Undeclared(Recent):
    sequential = False


def test_it_keeps_the_contracts_of_its_kind() -> None:
    check_recommender(Recent)
    assert PERMUTED not in recommender_contracts(Recent)


def test_undeclared_it_breaks_one_of_them() -> None:
    with pytest.raises(BrokenContractError, match=f"Undeclared breaks the contract '{PERMUTED}'"):
        check_recommender(Undeclared)
