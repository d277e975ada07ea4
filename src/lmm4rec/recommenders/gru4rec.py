"""GRU4Rec: recurrent units over the sequence of a user's items, by ids, content or both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.sequences import SequenceBatch
from lmm4rec.core.types import Features, Fraction, PositiveInt
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.projections import ContentProjection
from lmm4rec.nn.sequence_model import Calibration, HiddenUnits, ItemKind, SequenceLoss, SequenceModel, reads_content
from lmm4rec.nn.sequence_networks import RecurrentNetwork, SequenceEmbeddings
from lmm4rec.recommenders.base import Recommender

__all__ = ["GRU4Rec"]


class GRU4Rec(Recommender):
    """Gated recurrent units over sequences (Hidasi et al., ICLR 2016, arXiv 1511.06939).

    score(u, i) = (W h_t + b) · v_i for the state h_t of `layers` of GRUs after the vectors v of the user's latest
    t ≤ `length` items, with dropout on v and on h (Tan et al. 2016, arXiv 1606.08117).

    `items`, `content_hidden`, `loss` and `calibration` are those of `sasrec`: v_i is a vector for each id, a function
    of the item's features alone, or the sum; a user's vector is computed from the history.

    Differs from the authors' code: item vectors are shared by input and scores (their `constrained_embedding`); a
    sequence is trained from its beginning, not in parallel sessions whose states are carried on; negatives are sampled
    anew instead of the batch's other targets; their losses are TOP1 and cross-entropy with these.
    """

    sequential = True
    sequence_batches: ClassVar[bool] = True
    splits_batches = True
    shards_tables = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of item and user vectors.")] = 64,
        length: Annotated[PositiveInt, Doc("Latest items of a history that are read.")] = 50,
        layers: Annotated[PositiveInt, Doc("Layers of recurrent units.")] = 1,
        hidden_dim: Annotated[PositiveInt, Doc("Width of the recurrent state.")] = 128,
        dropout: Annotated[Fraction, Doc("Share of numbers that are dropped in training.")] = 0.2,
        items: ItemKind = "id",
        content_hidden: HiddenUnits = 0,
        loss: SequenceLoss = "bce",
        calibration: Calibration = 0.75,
    ) -> None:
        super().__init__(graph)
        network = RecurrentNetwork(dim, length, layers, hidden_dim, dropout, generator)
        self.model = SequenceModel(
            graph,
            features,
            network,
            dim=dim,
            items=items,
            content_hidden=content_hidden,
            loss=loss,
            calibration=calibration,
            generator=generator,
        )

    @classmethod
    def needs_features(cls, parameters: Mapping[str, Any]) -> bool:
        """Whether `items` is not "id"."""
        return reads_content(parameters)

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Recompute the means of the features."""
        self.model.items.begin_epoch(features)

    def losses(
        self, batch: SequenceBatch, features: Features, generator: torch.Generator
    ) -> Mapping[str, Float[Tensor, ""]]:
        """The loss, by its name."""
        return self.model.losses(batch, features, generator)

    def embed(self, features: Features) -> SequenceEmbeddings:
        """The vectors of the items, and those of the users after the graph's sequences."""
        return self.model.embed(self.graph, features)

    def content_projections(self) -> Mapping[str, ContentProjection]:
        """g of each modality."""
        return self.model.items.projections()
