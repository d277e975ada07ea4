"""What models of sequences share: item vectors from ids, content or both, the losses, and the vectors that rank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

import torch
from annotated_types import Interval
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.matrices import row_blocks, select_rows
from lmm4rec.core.sequences import PAD, SequenceBatch
from lmm4rec.core.types import Features, Modality, NonNegativeInt
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.losses import binary_cross_entropy, bpr, gbce_power, sampled_softmax
from lmm4rec.nn.projections import ContentProjection, HiddenLayer, center_of, xavier_weight, xavier_weights
from lmm4rec.nn.sequence_networks import SequenceEmbeddings, SequenceNetwork
from lmm4rec.nn.tables import normal_table

_STD = 0.02  # of the first id vectors, and of the weights after hidden units

ItemKind: TypeAlias = Annotated[
    Literal["id", "content", "both"], Doc("Item vectors: one for each id, from features alone, or their sum.")
]
HiddenUnits: TypeAlias = Annotated[
    NonNegativeInt, Doc("Hidden units of the map from features to item vectors, beside a linear one.")
]
SequenceLoss: TypeAlias = Annotated[
    Literal["bce", "bpr", "softmax", "gbce"],
    Doc("Loss of a target beside its negatives; softmax: sampled, with logQ correction."),
]
Calibration: TypeAlias = Annotated[
    float, Interval(ge=0, le=1), Doc("t of the loss gbce; 0: bce, 1: scores as of the full softmax.")
]


def reads_content(parameters: Mapping[str, Any]) -> bool:
    """Whether a model with these hyper-parameters needs features."""
    return parameters["items"] != "id"


class SequenceItems(nn.Module):
    """The vectors of items: v_i = e_i + sum over modalities m of g_m(f_i^m), e by id and f the item's features.

    "id" leaves the sum out, "content" leaves e out. g_m is a `ContentProjection` with hidden units, or linear without
    any. Features are centered and scaled to length 1, as in VBPR: an item that lacks a modality counts as one at the
    mean of all. The means are recomputed at the start of each epoch.
    """

    def __init__(
        self,
        n_items: int,
        features: Features,
        dim: int,
        kind: Literal["id", "content", "both"],
        hidden: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.table = None if kind == "content" else normal_table(n_items, dim, generator, std=_STD)
        features = {} if kind == "id" else features
        self.maps = xavier_weights(features, dim, generator)
        self.offsets, self.outer = nn.ParameterDict(), nn.ParameterDict()
        for modality, x in features.items():
            self.register_buffer(f"mean_{modality}", center_of(x.detach()))
            if hidden:
                both = self.maps[modality], xavier_weight(x.shape[1], hidden, generator)
                self.maps[modality] = nn.Parameter(torch.cat([one.detach() for one in both], dim=1))
                self.offsets[modality] = nn.Parameter(torch.zeros(hidden))
                self.outer[modality] = nn.Parameter(_STD * torch.randn(hidden, dim, generator=generator))

    def begin_epoch(self, features: Features) -> None:
        """Recompute the means of the features."""
        for modality in self.maps:
            self.get_buffer(f"mean_{modality}").copy_(center_of(features[modality].detach()))

    def projections(self) -> dict[Modality, ContentProjection]:
        """The map of each modality's features."""
        hidden = {m: HiddenLayer(self.offsets[m], outer) for m, outer in self.outer.items()}
        return {
            m: ContentProjection(x, self.get_buffer(f"mean_{m}"), hidden=hidden.get(m)) for m, x in self.maps.items()
        }

    def parts(self, dim: int) -> dict[str, slice]:
        """The part that all columns belong to; none where several add up in them."""
        names = [*([] if self.table is None else ["id"]), *self.maps]
        return {names[0]: slice(0, dim)} if len(names) == 1 else {}

    def rows(self, items: Int[Tensor, " chosen"], features: Features) -> Float[Tensor, "chosen dim"]:
        """The vectors of the given items."""
        parts = [] if self.table is None else [self.table.rows(items)]
        return _sum([*parts, *(one.over(row_blocks(features[m], items)) for m, one in self.projections().items())])

    def all(self, features: Features) -> Float[Tensor, "items dim"]:
        """The vectors of all items."""
        parts = [] if self.table is None else [self.table.all()]
        return _sum([*parts, *(one(features[m]) for m, one in self.projections().items())])


class SequenceModel(nn.Module):
    """Item vectors, and a network that reads them; both ends of a score are vectors of the same items."""

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        network: SequenceNetwork,
        *,
        dim: int,
        items: Literal["id", "content", "both"],
        content_hidden: int,
        loss: Literal["bce", "bpr", "softmax", "gbce"],
        calibration: float,
        generator: torch.Generator,
    ) -> None:
        """Raises ConfigError where content is to be read and there is none."""
        super().__init__()
        if items != "id" and not features:
            raise ConfigError(f'items = "{items}" needs features: give the conf an [encoder] table')
        self.items = SequenceItems(graph.n_items, features, dim, items, content_hidden, generator)
        self.network, self.loss = network, loss
        self.calibration, self.n_items = calibration, graph.n_items

    def losses(
        self, batch: SequenceBatch, features: Features, generator: torch.Generator
    ) -> dict[str, Float[Tensor, ""]]:
        """The loss, by its name: the mean over the targets of the batch."""
        is_target = batch.sequences[:, 1:] != PAD
        # behind the end stands an item that is read anyway; nothing of it reaches the loss
        rows = torch.where(batch.sequences == PAD, batch.sequences[:, :1], batch.sequences)
        distinct, where = torch.unique(torch.cat([rows.flatten(), batch.negatives.flatten()]), return_inverse=True)
        vectors = self.items.rows(distinct, features)
        places, negative_places = where[: rows.numel()].view(rows.shape), where[rows.numel() :]
        users = self.network(select_rows(vectors, places[:, :-1]), is_target.sum(1), generator)
        positives = (users * select_rows(vectors, places[:, 1:])).sum(2)
        negatives = select_rows(vectors, negative_places.view(batch.negatives.shape))
        is_shared = negatives.shape[1] == 1
        scores = users @ negatives[:, 0].mT if is_shared else (negatives @ users[..., None])[..., 0]
        expected = batch.log_expected.expand_as(scores)
        return {self.loss: self._loss(positives[is_target], scores[is_target], expected[is_target])}

    def embed(self, graph: InteractionGraph, features: Features) -> SequenceEmbeddings:
        """The vectors of the items, and those of the users from the graph's sequences."""
        items = self.items.all(features)
        return SequenceEmbeddings.of(self.network, items, graph.sequences, self.items.parts(items.shape[1]))

    def _loss(
        self,
        positives: Float[Tensor, " targets"],
        negatives: Float[Tensor, "targets negatives"],
        log_expected: Float[Tensor, "targets negatives"],
    ) -> Float[Tensor, ""]:
        if self.loss == "bpr":
            return bpr(positives, negatives)
        if self.loss == "softmax":
            return sampled_softmax(positives, negatives, log_expected)
        power = 1.0
        if self.loss == "gbce":
            power = gbce_power(min(1.0, negatives.shape[1] / max(1, self.n_items - 1)), self.calibration)
        return binary_cross_entropy(positives, negatives, power)


def _sum(parts: Iterable[Float[Tensor, "chosen dim"]]) -> Float[Tensor, "chosen dim"]:
    first, *others = parts
    for one in others:
        first = first + one
    return first
