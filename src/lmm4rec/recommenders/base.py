"""What every recommender is: named losses for a batch, and a scorer at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lmm4rec.core.types import Batch, Features, Scorer
from lmm4rec.nn.content_layers import ContentPath
from lmm4rec.nn.graph import InteractionGraph


class Recommender(nn.Module, ABC):
    """Joins features with who-liked-what.

    A model is built as `Class(graph, features, generator, **hyper_parameters)`: the training graph, the features it
    will see (their widths count, their values may change later), the generator that draws its first weights, and
    keyword-only hyper-parameters. It never learns where features come from; gradient flows to them where they carry it.
    """

    def __init__(self, graph: InteractionGraph) -> None:
        super().__init__()
        self.graph = graph

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Rebuild graphs or sample edges, where the model does so once an epoch."""

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """The named losses of a batch, already weighted; their sum is minimized. Models that only count have none."""
        raise NotImplementedError(f"{type(self).__name__} has nothing to train")

    def read(self, batch: Batch) -> Mapping[nn.Parameter, Int[Tensor, " rows"]]:
        """The tables of which `losses` reads only the given rows, all by `nn.tables.rows`; some may be listed twice.

        The optimizer then works on these rows alone. A table that is used whole must not be among them.
        """
        return {}

    @abstractmethod
    def embed(self, features: Features) -> Scorer:
        """What ranks: two matrices (`Embeddings`), or for the rare model without them another scorer."""

    def content_paths(self) -> Mapping[str, ContentPath]:
        """The model's own way from an item's content to its vector, where it has one that any item can take.

        For each modality, what gives the columns that `Embeddings.parts` has under its name.
        """
        return {}

    @property
    def is_trained(self) -> bool:
        """Whether the model has weights to train."""
        return any(parameter.requires_grad for parameter in self.parameters())
