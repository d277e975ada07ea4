"""ALDI: distillation of a trained model's scores and vectors into a model of content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.coldstart.methods.base import BatchPairs, ColdStartMethod, TanhLayers
from lmm4rec.core.matrices import dot_each
from lmm4rec.core.types import Batch, Embeddings, Features, NonNegativeFloat, PositiveFloat, PositiveInt
from lmm4rec.nn.graph import InteractionGraph

__all__ = ["ALDI"]


class ALDI(ColdStartMethod):
    """Aligning distillation (Huang et al. 2023, "Aligning Distillation For Cold-Start Item Recommendation", CIKM).

    The teacher scores t(u, i) = U_u · V_i, the student s(u, i) = f_U(U_u) · f_I(x_i) by content alone. For a user with
    a positive item i and a negative j, with σ the logistic function and H(p, q) = -p log q - (1 - p) log(1 - q):

    L = H(1, σ(s_ui - s_uj))                                     the student's own ranking
        + `ranking_weight` w_i H(σ(t_ui - t_uj), σ(s_ui - s_uj))
        + `identity_weight` w_i H(σ(T_i), σ(S_i))
        + `rating_weight` (|t_ui - s_ui| + |t_uj - s_uj|)

    T_i = |V_i|² - mean over the negatives j of the batch V_i · V_j, and S_i the same of the student's item vectors.
    w_i = min(tanh(M c_i / mean c), tanh(M)) trusts the teacher more for popular items: c_i is the sum over the users of
    i of 1 / (their number of items), M = `frequency_limit`. Defaults are the authors'.

    Differs from the authors' code: no weight decay of the networks.
    """

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        trained: Embeddings,
        *,
        hidden: Annotated[PositiveInt, Doc("Width of the hidden layers.")] = 200,
        ranking_weight: Annotated[NonNegativeFloat, Doc("Weight of the teacher's differences of two scores.")] = 0.9,
        identity_weight: Annotated[NonNegativeFloat, Doc("Weight of the items' distances T and S.")] = 0.05,
        rating_weight: Annotated[NonNegativeFloat, Doc("Weight of the differences to the teacher's scores.")] = 0.1,
        frequency_limit: Annotated[PositiveFloat, Doc("Slope of the teacher's weight by an item's popularity.")] = 4.0,
    ) -> None:
        super().__init__(graph, features, trained)
        width = trained.items.shape[1]
        self.users = TanhLayers(width, hidden, width, generator)
        self.items = TanhLayers(self.known.shape[1], hidden, width, generator)
        self.weights = (ranking_weight, identity_weight, rating_weight)
        shares = 1.0 / graph.user_degrees[graph.users].float()
        counts = torch.zeros(graph.n_items, device=shares.device).index_add(0, graph.items, shares)
        scaled = frequency_limit * (counts / counts.mean()).clamp(max=1.0)
        self.register_buffer("trust", torch.tanh(scaled), persistent=False)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`own`, `ranking`, `identity` and `rating`; of several negatives, each makes a pair."""
        pairs = BatchPairs.of(batch)
        student = pairs.vectors(self.user_vectors(pairs.users), self.item_vectors(self.known[pairs.items]))
        teacher = (self.trained_users[batch.users], self.trained_items[pairs.both])
        terms = distillation(student, teacher, self.get_buffer("trust")[batch.positives])
        weights = dict(zip(("ranking", "identity", "rating"), self.weights, strict=True))
        return {name: weights.get(name, 1.0) * term for name, term in terms.items()}

    def user_vectors(self, users: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen dim"]:
        """f_U(U_u)."""
        return cast(Tensor, self.users(self.trained_users[users]))

    def item_vectors(self, content: Float[Tensor, "items axes"]) -> Float[Tensor, "items dim"]:
        """f_I(x_i)."""
        return cast(Tensor, self.items(content))


def distillation(
    student: tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch both dim"]],
    teacher: tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch both dim"]],
    trust: Float[Tensor, " batch"],
) -> dict[str, Float[Tensor, ""]]:
    """The unweighted terms of the loss; a side is the users' vectors and those of their items, the positive first."""
    (s, s_distance), (t, t_distance) = (_scores_and_distances(*side) for side in (student, teacher))
    s_order, t_order = s[:, :1] - s[:, 1:], t[:, :1] - t[:, 1:]
    return {
        "own": F.softplus(-s_order).mean(),
        "ranking": (trust[:, None] * _agreement(t_order, s_order)).mean(),
        "identity": (trust * _agreement(t_distance, s_distance)).mean(),
        "rating": ((t[:, :1] - s[:, :1]).abs() + (t[:, 1:] - s[:, 1:]).abs()).mean(),
    }


def _scores_and_distances(
    users: Float[Tensor, "batch dim"], items: Float[Tensor, "batch both dim"]
) -> tuple[Float[Tensor, "batch both"], Float[Tensor, " batch"]]:
    positives, negatives = items[:, 0], items[:, 1:]
    distances = positives.square().sum(1) - positives @ negatives.flatten(0, 1).mean(0)
    return dot_each(users, items), distances


def _agreement(teacher: Tensor, student: Tensor) -> Tensor:
    """H(σ(teacher), σ(student))."""
    return F.binary_cross_entropy_with_logits(student, torch.sigmoid(teacher), reduction="none")
