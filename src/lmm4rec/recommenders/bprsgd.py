"""BPR-SGD: matrix factorization with a pairwise ranking loss, by single steps of gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.types import Embeddings, Features, NonNegativeFloat, PositiveFloat, PositiveInt
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.pairwise_steps import compiled_descend
from lmm4rec.nn.tables import normal_table
from lmm4rec.recommenders.base import Recommender

__all__ = ["BPRSGD"]


class BPRSGD(Recommender):
    """Matrix factorization under Bayesian personalized ranking (Rendle et al. 2009, arXiv 1205.2618), as published.

    The model and the loss are those of `bpr`; it is trained by the paper's LearnBPR (fig. 4): each step takes one
    triple, and the next step sees its result. A step costs three vectors, so that an epoch takes a fraction of the time
    of mini-batches with Adam. It is compiled by Numba (`pip install 'lmm4rec[numba]'`).

    The keys of gradient steps in [train] are ignored: `batch_size`, `optimizer`, `learning_rate`, `weight_decay`,
    `schedule`, `warmup`, `clip_norm`.

    Differs from the paper: an epoch visits every interaction once, in random order, in place of draws with replacement;
    one weight regularizes users, positives and negatives.
    """

    is_solved = True
    is_compiled = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the user and item vectors.")] = 64,
        step_size: Annotated[PositiveFloat, Doc("Learning rate of the single steps.")] = 0.05,
        l2_weight: Annotated[
            NonNegativeFloat, Doc("Weight of half the squared norms of a step's vectors; sparse logs take 0.06.")
        ] = 0.02,
        initial_std: Annotated[PositiveFloat, Doc("Standard deviation of the initial vectors.")] = 0.1,
    ) -> None:
        super().__init__(graph)
        self.step_size, self.l2_weight = step_size, l2_weight
        self.users = normal_table(graph.n_users, dim, generator, std=initial_std)
        self.items = normal_table(graph.n_items, dim, generator, std=initial_std)
        pairs = torch.unique(graph.users.long() * graph.n_items + graph.items).numpy()
        self._users, self._items = pairs // graph.n_items, pairs % graph.n_items
        self._starts = np.searchsorted(self._users, np.arange(graph.n_users + 1))
        self._descend = compiled_descend()

    @classmethod
    def require_packages(cls) -> None:
        """Numba."""
        compiled_descend()

    def sweep(self, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """The term `bpr`: the mean loss over the steps of a pass over all interactions."""
        seed = int(torch.randint(2**31, (), generator=generator))
        rates = np.float32(self.step_size), np.float32(self.l2_weight)
        vectors = [table.detach().cpu() for table in (self.users, self.items)]
        arrays = [each.numpy() for each in vectors]
        loss = self._descend(self._users, self._starts, self._items, *arrays, *rates, seed)
        with torch.no_grad():
            self.users.copy_(vectors[0])
            self.items.copy_(vectors[1])
        return {"bpr": torch.tensor(loss)}

    def embed(self, features: Features) -> Embeddings:
        """The two tables."""
        return Embeddings(self.users.all(), self.items.all(), parts={"id": slice(0, self.users.shape[1])})
