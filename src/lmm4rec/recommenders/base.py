"""The base class of all recommenders: named losses for a batch, and a scorer after training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Features, Scorer
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.projections import ContentProjection


def require_divisible(dim: int, heads: int) -> None:
    """Raises ConfigError where vectors of this width cannot be divided among the heads."""
    if dim % heads:
        raise ConfigError(f"recommender.dim = {dim} must be a multiple of recommender.heads = {heads}")


class Recommender(nn.Module, ABC):
    """A model of users and items, trained on interactions and item features.

    It is built as `Class(graph, features, generator, **hyper_parameters)`: the training graph, the features it will see
    (their widths count, their values may change later), the generator that draws its first weights, and keyword-only
    hyper-parameters. It does not know where features come from; gradient flows to them where they require it.

    A class declares what it can do in the class variables below; `lmm4rec.testing.check_recommender` holds it to that.
    """

    is_trained: ClassVar[bool] = True
    """Whether a training loop fits its weights; False: a closed form, which `embed` computes from the graph."""

    is_deterministic: ClassVar[bool] = False
    """Whether it draws no random number, so that every seed gives the same scores and one run is enough."""

    is_solved: ClassVar[bool] = False
    """Whether an epoch of its training is one `sweep` of updates of its own; False: gradient steps on `losses`."""

    is_compiled: ClassVar[bool] = False
    """Whether its first epoch compiles machine code, where none is kept from before."""

    is_personal: ClassVar[bool] = True
    """Whether users are ranked differently; False: all get the same list."""

    uses_content: ClassVar[bool] = False
    """Whether it needs features, whatever its hyper-parameters: built without them, it raises ConfigError."""

    trains_content: ClassVar[bool] = True
    """Whether gradient reaches the features it uses; False: they only choose the edges of graphs, so that an encoder
    cannot be trained end to end with it."""

    spreads_content: ClassVar[bool] = False
    """Whether a graph carries content from item to item: a batch's losses then depend on other items' features too."""

    item_graph: ClassVar[bool] = False
    """Whether similar items contribute to an item's vector, also to that of an item without content."""

    user_batches: ClassVar[bool] = False
    """Whether a batch is users, each once in an epoch, whose histories are read from the graph; False: triples."""

    uses_weights: ClassVar[bool] = False
    """Whether the weights of interactions count; False: all interactions count the same."""

    dense_items: ClassVar[bool] = False
    """Whether it holds a dense matrix [items, items]; its hyper-parameter `memory_gb` limits the size."""

    sequential: ClassVar[bool] = False
    """Whether the order of a user's interactions counts. `graph.sequences` has it; a graph that was built without an
    order lists them by item row, which then stands for that of time: renumbered items have other scores."""

    sequence_batches: ClassVar[bool] = False
    """Whether a batch is a `SequenceBatch`, of sequences of at most the hyper-parameter `length`; False: triples."""

    splits_batches: ClassVar[bool] = False
    """Whether several processes share a batch's rows: its losses are means over rows (of sequences: over targets), and
    neither a whole table nor a graph is read. Random numbers of a batch's shape come from `batch_rows.uniform`. False:
    each process computes the losses of the whole batch, of which each encodes its share of the items, and on large
    logs `batch_size = "auto"` means fewer batches, since the cost of each one is that of the graph."""

    shards_tables: ClassVar[bool] = False
    """Whether its tables and graphs may be shared by rows: it reads tables by `rows` and `all`, and graphs as
    `SparseMatrix` by calling it."""

    def __init__(self, graph: InteractionGraph, features: Features | None = None) -> None:
        """A model that `uses_content` passes its features on; ConfigError where there are none."""
        super().__init__()
        if self.uses_content and features is not None and not features:
            raise ConfigError(f"{type(self).__name__} needs features: give the conf an [encoder] table")
        self.graph = graph

    @classmethod
    def needs_features(cls, parameters: Mapping[str, Any]) -> bool:
        """Whether it needs features with these hyper-parameters, all of which are there."""
        return cls.uses_content

    @classmethod
    def check_parameters(cls, parameters: Mapping[str, Any]) -> None:
        """Raises ConfigError where hyper-parameters, all of which are there, do not fit each other."""

    @classmethod
    def require_packages(cls) -> None:
        """Raises MissingExtraError where a package that it needs beside those of lmm4rec is not installed."""

    def adversary(self) -> nn.Module | None:
        """Its part that is trained against the rest by a loss of its own, such as a critic, if it has one.

        `train.clip_norm` bounds that part's gradient apart from the others', whose size may be quite another.
        """
        return None

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Rebuild graphs or sample edges, where the model does so once an epoch."""

    def losses(self, batch: Any, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """The named losses of a batch, already weighted; their sum is minimized. For gradient steps.

        The batch is a `Batch`, or a `SequenceBatch` where the class has `sequence_batches`.
        """
        raise NotImplementedError(f"{type(self).__name__} has nothing to train")

    def sweep(self, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """Update all weights in place; the named terms of what is minimized, afterwards. Called where `is_solved`."""
        raise NotImplementedError(f"{type(self).__name__} is trained by gradient steps")

    @abstractmethod
    def embed(self, features: Features) -> Scorer:
        """The scorer that ranks: two matrices (`Embeddings`), or for the rare model without them another scorer."""

    def content_projections(self) -> Mapping[str, ContentProjection]:
        """The model's own maps from item features to item vectors, which serve new items too, if it has such maps.

        The map of a modality gives the columns that `Embeddings.parts` has under the modality's name; in a model of
        sequences the maps may add up in all columns, to which an id vector may be added. For a model that
        ends in `Neighbors`, the sum over modalities is an item's row of similarities; called after `embed`.
        """
        return {}

    def similarity_as_new(self, items: Int[Tensor, " chosen"], features: Features) -> Float[Tensor, "chosen items"]:
        """The similarities that items would have by `content_projections` if they were new; for `Neighbors` alone.

        The scale of new items' similarities is fitted on them.
        """
        raise NotImplementedError(f"{type(self).__name__} maps no content to similarities")
