"""iALS: matrix factorization by alternating least squares over all pairs of users and items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.types import Embeddings, Features, NonNegativeFloat, PositiveFloat, PositiveInt
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.least_squares import SparseRows, solve_rows
from lmm4rec.nn.tables import normal_table
from lmm4rec.recommenders.base import Recommender

__all__ = ["IALS"]


class IALS(Recommender):
    """Implicit alternating least squares (Hu et al. 2008, doi 10.1109/ICDM.2008.22), as stated by Rendle et al. 2022.

    With S the interactions, x the user and y the item vectors it minimizes (arXiv 2110.14037)

    sum over S of w_ui (x_u · y_i - 1)² + α0 · sum over all u, i of (x_u · y_i)²
    + λ · (sum over u of (|items of u| + α0 |I|)^ν |x_u|² + sum over i of (|users of i| + α0 |U|)^ν |y_i|²)

    w is the weight of the interaction, 1 where the data has none; |items of u| and |users of i| are sums of weights, so
    that an interaction of weight 2 counts like two.

    An epoch is a sweep: all user vectors at the exact minimum for the item vectors, then all item vectors for these.
    α0 is `unobserved_weight`, λ is `l2_weight`, ν is `frequency_power`. Accuracy mostly grows with `dim`.

    The keys of gradient steps in [train] are ignored: `batch_size`, `optimizer`, `learning_rate`, `weight_decay`,
    `schedule`, `warmup`, `clip_norm`.

    Differs from the authors' code: the vector of a row with fewer interactions than `dim` comes from a system with one
    equation per interaction (`nn.least_squares`), which has the same solution; their iALS++ solves parts of each vector
    in turn.
    """

    is_solved = True
    uses_weights = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the user and item vectors.")] = 64,
        unobserved_weight: Annotated[PositiveFloat, Doc("Weight α0 of all pairs; interactions add 1.")] = 0.03,
        l2_weight: Annotated[PositiveFloat, Doc("Weight λ of the squared norms.")] = 1e-2,
        frequency_power: Annotated[NonNegativeFloat, Doc("Power ν by which frequent rows are regularized more.")] = 1.0,
        initial_std: Annotated[PositiveFloat, Doc("Standard deviation of first vectors times sqrt(dim).")] = 0.1,
    ) -> None:
        super().__init__(graph)
        self.unobserved_weight, self.l2_weight, self.frequency_power = unobserved_weight, l2_weight, frequency_power
        self.users = normal_table(graph.n_users, dim, generator, std=initial_std / dim**0.5)
        self.items = normal_table(graph.n_items, dim, generator, std=initial_std / dim**0.5)
        self.items_of = SparseRows(graph.users, graph.items, (graph.n_users, graph.n_items), graph.weights)
        self.users_of = SparseRows(graph.items, graph.users, (graph.n_items, graph.n_users), graph.weights)

    def sweep(self, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """The terms `interactions`, `all_pairs` and `l2` after all vectors were solved, per interaction."""
        users, items, weight = self.users.detach(), self.items.detach(), self.unobserved_weight
        of_users, of_items = self._l2_weights(self.items_of), self._l2_weights(self.users_of)
        solve_rows(self.items_of, items, users, weight, of_users)
        error = solve_rows(self.users_of, users, items, weight, of_items)
        terms = {
            "interactions": error,
            "all_pairs": weight * ((users.T @ users) * (items.T @ items)).sum(),
            "l2": of_users @ users.square().sum(1) + of_items @ items.square().sum(1),
        }
        return {name: term / max(len(self.graph.users), 1) for name, term in terms.items()}

    def _l2_weights(self, positives: SparseRows) -> Float[Tensor, " rows"]:
        frequencies = positives.totals + self.unobserved_weight * positives.matrix.shape[1]
        return self.l2_weight * frequencies**self.frequency_power

    def embed(self, features: Features) -> Embeddings:
        """The user and item vectors."""
        return Embeddings(self.users.all(), self.items.all(), parts={"id": slice(0, self.users.shape[1])})
