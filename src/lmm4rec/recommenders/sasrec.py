"""SASRec: causal self-attention over the sequence of a user's items, by ids, content or both."""

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
from lmm4rec.nn.sequence_networks import AttentionNetwork, SequenceEmbeddings
from lmm4rec.recommenders.base import Recommender, require_divisible

__all__ = ["SASRec"]


class SASRec(Recommender):
    """Self-attentive sequential recommendation (Kang and McAuley, ICDM 2018, arXiv 1808.09781).

    score(u, i) = f(v_1, ..., v_t) · v_i for the vectors v of the user's latest t ≤ `length` items, where f is the last
    row of F after x = sqrt(dim) v + p, with a position vector p for each age of an item, and `layers` times

    x ← x + softmax(Q Kᵀ / sqrt(d) + causal mask) V,    Q, K, V = N(x) W_q, N(x) W_k, N(x) W_v    (eq. 2, 3; per head)
    x ← x + relu(N(x) W_1 + b_1) W_2 + b_2    (eq. 4)

    N is layer normalization, F = N(x), and dropout is applied to x at first and to each summand (sec. III-C).

    `items` says what v_i is: a vector for each id; g(f_i) by the item's features f_i alone, as in MoRec (arXiv
    2303.13835), where new items need nothing more; or the sum of both. g is a linear map, plus one through
    `content_hidden` units (`ContentProjection`). Features may be frozen, or of an encoder that trains with the model by
    any way of [features] (IISAN, arXiv 2404.02059, is `adapter = "side"`).

    Losses, of each target beside sampled negatives: `bce` (eq. 6), `bpr`, `softmax` (sampled, with logQ correction),
    and `gbce` (arXiv 2308.07192) with its `calibration`. With "softmax" and "gbce" take more negatives.

    A user's vector is computed from the history, so an unseen user needs no training; one without items has a vector
    of zeros.

    Differs from the authors' code: keys and values are normalized like the queries, as in the paper; no dropout of
    attention weights; histories that are longer than `length` are trained in parts, none is thrown away; positions
    count from the latest item, which gives the same as padding in front.
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
        layers: Annotated[PositiveInt, Doc("Blocks of attention and feed-forward layers.")] = 2,
        heads: Annotated[PositiveInt, Doc("Heads of attention; dim is a multiple.")] = 1,
        dropout: Annotated[Fraction, Doc("Share of numbers that are dropped in training.")] = 0.2,
        items: ItemKind = "id",
        content_hidden: HiddenUnits = 0,
        loss: SequenceLoss = "bce",
        calibration: Calibration = 0.75,
    ) -> None:
        super().__init__(graph)
        require_divisible(dim, heads)
        network = AttentionNetwork(dim, length, layers, heads, dropout, generator)
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
    def check_parameters(cls, parameters: Mapping[str, Any]) -> None:
        """Refuse a `dim` that `heads` does not divide."""
        require_divisible(parameters["dim"], parameters["heads"])

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
