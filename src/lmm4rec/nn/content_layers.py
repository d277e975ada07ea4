"""What item content goes through before it meets users: linear maps, and graphs that are as fresh as it is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Features, Modality
from lmm4rec.nn.tables import row_blocks, xavier_table

Graph = TypeVar("Graph", bound=nn.Module)


class Projections(nn.Module):
    """A linear map W x + b for each modality; an item that lacks a modality comes out as zeros there.

    With `trained`, the features are weights of their own that only start at the given ones (some authors' code does
    so): memory and time grow by three tables of the features' size, and what the features are later has no effect.
    """

    def __init__(
        self, features: Features, dim: int, generator: torch.Generator, *, bias: bool = True, trained: bool = False
    ) -> None:
        super().__init__()
        maps = {m: xavier_table(x.shape[1], dim, generator) for m, x in features.items()}
        self.maps = nn.ParameterDict(OrderedDict(maps))  # a plain dict would be sorted by name
        self.offsets = nn.ParameterDict({m: nn.Parameter(torch.zeros(dim)) for m in features if bias})
        self.tables = nn.ParameterDict({m: nn.Parameter(x.detach().clone()) for m, x in features.items() if trained})

    def forward(
        self, features: Features, items: Int[Tensor, " chosen"] | None = None
    ) -> dict[Modality, Float[Tensor, "chosen dim"]]:
        """The projected features of the given items (of all, where none are given), in the order of the first ones."""
        projected = {}
        for modality, weights in self.maps.items():
            x = self.tables[modality] if self.tables else features[modality]
            product = x @ weights if items is None else torch.cat([part @ weights for part in row_blocks(x, items)])
            moved = product + self.offsets[modality] if modality in self.offsets else product
            # a row of zeros is told by its product: a few numbers to look at instead of thousands
            projected[modality] = torch.where(present(product)[:, None], moved, 0.0)
        return projected


class ContentPath(NamedTuple):
    """The linear way from one modality of any item to columns of its vector; zeros where the item lacks the modality.

    With a `center`, the features less it are scaled to length 1 first.
    """

    weights: Float[Tensor, "width columns"]
    center: Float[Tensor, " width"] | None = None

    def __call__(self, content: Float[Tensor, "items width"]) -> Float[Tensor, "items columns"]:
        """The columns of items with this content."""
        return self.over([content])

    def over(self, blocks: Iterable[Float[Tensor, "block width"]]) -> Float[Tensor, "items columns"]:
        """The columns of items whose content comes in blocks."""
        if self.center is None:
            return torch.cat([block @ self.weights for block in blocks])
        # centering and scaling follow the product, where a row is 66 numbers instead of thousands
        wide = torch.cat([self.weights, self.center[:, None]], dim=1)
        pairs = [(block @ wide, torch.linalg.vector_norm(block, dim=1)) for block in blocks]
        product, norms = (torch.cat(side) for side in zip(*pairs, strict=True))
        squares = norms.square()
        lengths = (squares - 2 * product[:, -1] + self.center.square().sum()).clamp(min=1e-12).sqrt()
        centered = (product[:, :-1] - self.center @ self.weights) / lengths[:, None]
        return torch.where((squares > 0)[:, None], centered, 0.0)


def present(x: Float[Tensor, "items dim"]) -> Bool[Tensor, " items"]:
    """Which rows are not all zeros."""
    return (x.detach() != 0).any(dim=1)


class ContentGraph(nn.Module, Generic[Graph]):
    """A graph made of item features, built again whenever they are others than those it was made of.

    They are told apart by their values, not by which tensor or file holds them.
    """

    def __init__(self, build: Callable[[Features], Graph]) -> None:
        super().__init__()
        self.build = build
        self.graph: Graph | None = None
        self._made_of: dict[Modality, Tensor] = {}

    def renew(self, features: Features) -> None:
        """Keep the graph of these features for the steps to come."""
        if self.graph is None or not self._is_made_of(features):
            self.graph, self._made_of = self.build(features), _probe(features)

    def current(self, features: Features) -> Graph:
        """The graph that was kept last, without a look at the features; at the very first it is made of these."""
        if self.graph is None:
            self.renew(features)
        assert self.graph is not None
        return self.graph

    def forward(self, features: Features) -> Graph:
        """The graph of exactly these features; one that was not kept already is not kept now."""
        return self.graph if self.graph is not None and self._is_made_of(features) else self.build(features)

    def _is_made_of(self, features: Features) -> bool:
        if self._made_of.keys() != features.keys():
            return False
        now = _probe(features)
        return all(torch.equal(now[m], seen.to(now[m].device)) for m, seen in self._made_of.items())


def _probe(features: Features) -> dict[Modality, Tensor]:
    """One number an item and modality, which another vector has only by a rare chance."""
    return {
        m: x.detach() @ torch.cos(torch.arange(x.shape[1], device=x.device, dtype=x.dtype)) for m, x in features.items()
    }


def require_content(features: Features, model: str) -> None:
    """Raises ConfigError where there is no modality to learn from."""
    if not features:
        raise ConfigError(f"{model} needs features of at least one modality: give the conf an [encoder] table")
