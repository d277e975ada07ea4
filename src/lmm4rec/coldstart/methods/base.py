"""The base class of the cold-start methods: a trained model's vectors and content in, vectors for any items out."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lmm4rec.coldstart.content_space import ContentSpace
from lmm4rec.core.matrices import select_rows
from lmm4rec.core.types import Batch, Embeddings, Features
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.linear_algebra import principal_axes
from lmm4rec.nn.projections import Affine
from lmm4rec.recommenders.base import Recommender

_AXES = 256  # principal axes of content; the authors of DropoutNet and Heater take 300


class ColdStartMethod(Recommender):
    """A model on top of a trained one, from that one's user vectors U and item vectors V and the items' content x.

    It is trained like any recommender, on the items of the graph. `embed` returns vectors for the items whose features
    are passed, all of them as if they had no interactions, and the user vectors that score them. The content x of an
    item is its vector in `ContentSpace`, in the 256 principal axes, with a root mean square of 1.
    """

    uses_content = True

    known: Tensor  # the content of the graph's items
    basis: Tensor
    trained_users: Tensor
    trained_items: Tensor

    def __init__(self, graph: InteractionGraph, features: Features, trained: Embeddings) -> None:
        """`trained` are the vectors of the graph's users and items."""
        super().__init__(graph, features)
        space = ContentSpace.of(features)
        self.modalities = tuple(space.centers)
        for modality, center in space.centers.items():
            self.register_buffer(f"center_{modality}", center)
        x = space(features)
        basis = principal_axes(x, _AXES)
        basis = basis / (x @ basis).square().mean().sqrt().clamp(min=1e-12)
        self.register_buffer("basis", basis)
        self.register_buffer("known", x @ basis)
        self.register_buffer("trained_users", trained.users.detach().clone())
        self.register_buffer("trained_items", trained.items.detach().clone())

    @abstractmethod
    def user_vectors(self, users: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen dim"]:
        """The user vectors that score the items of `item_vectors`."""

    @abstractmethod
    def item_vectors(self, content: Float[Tensor, "items axes"]) -> Float[Tensor, "items dim"]:
        """The vectors of items without interactions."""

    def embed(self, features: Features) -> Embeddings:
        """All users, and the items of these features, as if they had no interactions."""
        space = ContentSpace({m: self.get_buffer(f"center_{m}") for m in self.modalities})
        users = torch.arange(self.graph.n_users, device=self.basis.device)
        return Embeddings(self.user_vectors(users), self.item_vectors(space(features) @ self.basis))


class BatchPairs(NamedTuple):
    """A batch as pairs of a user and an item, the positive first, in which each user and item is computed once."""

    users: Int[Tensor, " users"]  # distinct
    items: Int[Tensor, " items"]  # distinct
    user_of: Int[Tensor, " batch"]
    items_of: Int[Tensor, "batch candidates"]
    both: Int[Tensor, "batch candidates"]  # item rows: the positive, then the negatives

    @classmethod
    def of(cls, batch: Batch) -> BatchPairs:
        """The pairs of a batch."""
        both = torch.cat([batch.positives[:, None], batch.negatives], dim=1)
        users, user_of = torch.unique(batch.users, return_inverse=True)
        items, items_of = torch.unique(both, return_inverse=True)
        return cls(users, items, user_of, items_of, both)

    def vectors(
        self, users: Float[Tensor, "users dim"], items: Float[Tensor, "items dim"]
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch candidates dim"]]:
        """The vectors of each pair, from those of the distinct users and items."""
        return select_rows(users, self.user_of), select_rows(items, self.items_of)


class TanhLayers(nn.Module):
    """The network A₂ tanh(norm(A₁ x)): two affine maps, with batch normalization between them."""

    def __init__(self, inputs: int, hidden: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first, self.last = Affine(inputs, hidden, generator), Affine(hidden, outputs, generator)
        self.norm = nn.BatchNorm1d(hidden)

    def forward(self, x: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        """The outputs of each row; in training, the normalization is that of these rows."""
        return cast(Tensor, self.last(torch.tanh(self.norm(self.first(x)))))


def standardized(x: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
    """Each column less its mean, divided by its standard deviation; a constant column becomes 0."""
    return (x - x.mean(0)) / x.std(0, correction=0).clamp(min=1e-6)
