"""The types that every layer shares.

Items come in as images and text (`Item`), an encoder turns them into vectors (`Inputs` -> `Features`), a
recommender joins the vectors with interactions (`Batch`), and out come two matrices that rank (`Embeddings`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import scipy.sparse as sp
import torch
from annotated_types import Ge, Gt, Interval
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.matrices import dot_products, positions_in_runs

Modality: TypeAlias = str
"""The name of a kind of content: "image", "text", "audio", ... No code knows a fixed list."""

Features: TypeAlias = Mapping[Modality, Float[Tensor, "items _dim"]]
"""Row i is item i, always. A row of zeros marks an item that lacks this modality."""

_ROWS = 2048  # of a dense matrix that are copied at once
_ENTRIES = 2**20  # of a sparse matrix that are added at once, about

# Ranges that hyper-parameters state in their signature; the conf reader enforces them.
PositiveInt: TypeAlias = Annotated[int, Ge(1)]
NonNegativeInt: TypeAlias = Annotated[int, Ge(0)]
PositiveFloat: TypeAlias = Annotated[float, Gt(0)]
NonNegativeFloat: TypeAlias = Annotated[float, Ge(0)]
Share: TypeAlias = Annotated[float, Interval(ge=0, le=1)]
Fraction: TypeAlias = Annotated[float, Interval(ge=0, lt=1)]


@runtime_checkable
class ItemImage(Protocol):
    """An image that is read when it is needed."""

    def open(self) -> Image.Image:
        """The image as upright RGB; raises `ImageError` where it cannot be read."""
        ...

    def digest(self) -> str:
        """A digest of the image's bytes (its name where there are none to read)."""
        ...


@runtime_checkable
class DrawnImage(Protocol):
    """An image that is computed, so that it is sharp at any size."""

    def draw(self, side: int) -> Image.Image:
        """The image, `side` by `side` pixels."""
        ...


@dataclass(frozen=True)
class Item:
    """An item that can be recommended: its id, its text fields, its image."""

    id: str
    fields: Mapping[str, str] = field(default_factory=dict)
    image: ItemImage | None = None


class Inputs(NamedTuple):
    """A batch of prepared items in one format for all encoders; each converts it to what its model takes.

    A row without an image has `has_image` False and zero pixels; a row without text has an all-False `text_mask`, one
    without sound an all-False `sound_mask`.
    """

    pixels: Float[Tensor, "batch channels height width"] | None = None
    text_ids: Int[Tensor, "batch length"] | None = None
    text_mask: Bool[Tensor, "batch length"] | None = None  # True marks a real token
    has_image: Bool[Tensor, " batch"] | None = None  # None: every row has its image
    image_shape: Int[Tensor, "batch 2"] | None = None  # rows and columns of patches, of images of several shapes
    spectrograms: Float[Tensor, "batch channels height width"] | None = None
    sound_mask: Bool[Tensor, "batch frames"] | None = None  # True marks a frame with sound

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Inputs:
        """The same inputs on a device."""
        return self._map(lambda values: values.to(device, non_blocking=non_blocking))

    def rows(self, index: Int[Tensor, " chosen"] | Bool[Tensor, " batch"]) -> Inputs:
        """The inputs of the rows that an index or a mask selects."""
        return self._map(lambda values: values[index])

    def of(self, modality: Modality) -> Inputs:
        """The inputs of one modality alone: "image", "text" or "audio"."""
        return Inputs(**{name: getattr(self, name) for name in _FIELDS[modality]})

    def slice(self, start: int, stop: int) -> Inputs:
        """The inputs of the rows from `start` up to `stop`, as views."""
        return self._map(lambda values: values[start:stop])

    def __repr__(self) -> str:
        shapes = (f"{name} {list(x.shape)}" for name, x in zip(self._fields, self, strict=True) if x is not None)
        return f"Inputs({', '.join(shapes)})"

    def _map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        return Inputs(*(None if values is None else change(values) for values in self))


MODALITIES: tuple[Modality, ...] = ("image", "text", "audio", "video")  # of encoders and of known data sets
_FIELDS: Mapping[Modality, tuple[str, ...]] = {
    "image": ("pixels", "has_image", "image_shape"),
    "text": ("text_ids", "text_mask"),
    "audio": ("spectrograms", "sound_mask"),
}


class Batch(NamedTuple):
    """Training triples: each user with one positive item and sampled negative items."""

    users: Int[Tensor, " batch"]
    positives: Int[Tensor, " batch"]
    negatives: Int[Tensor, "batch negatives"]

    @property
    def items(self) -> Int[Tensor, " entries"]:
        """All items that occur, some repeatedly."""
        return torch.cat([self.positives, self.negatives.flatten()])


@runtime_checkable
class Scorer(Protocol):
    """A scorer of every item for a user; ranking, export and serving know only this."""

    @property
    def n_users(self) -> int:
        """The number of users."""
        ...

    @property
    def n_items(self) -> int:
        """The number of items."""
        ...

    def scores(self, users: Int[Tensor, " batch"]) -> Float[Tensor, "batch items"]:
        """The score of every item for each of the given user rows; higher is better."""
        ...


AnyEmbeddings = TypeVar("AnyEmbeddings", bound="Embeddings")  # `Self` has no check at run time


@dataclass(frozen=True)
class Embeddings:
    """The two matrices that a recommender ends in: score = users · itemsᵀ (a bias is one more column).

    Where the columns belong to parts of the model ("id", "bias", a modality), `parts` names each part's columns, none
    twice and none left out: a score is then the sum of the parts' scores. Empty: the parts share their columns.
    """

    users: Float[Tensor, "users dim"]
    items: Float[Tensor, "items dim"]
    parts: Mapping[str, slice] = field(default_factory=dict, kw_only=True)

    @property
    def n_users(self) -> int:
        """The rows of the user matrix."""
        return self.users.shape[0]

    @property
    def n_items(self) -> int:
        """The rows of the item matrix."""
        return self.items.shape[0]

    def scores(self, users: Int[Tensor, " batch"]) -> Float[Tensor, "batch items"]:
        """The score of every item for each of the given user rows."""
        return dot_products(self.users[users], self.items)

    def __repr__(self) -> str:
        return f"Embeddings({self.n_users:,} users, {self.n_items:,} items, {self.items.shape[1]} columns)"

    def detach(self: AnyEmbeddings) -> AnyEmbeddings:
        """The same vectors without the graph of gradients that they may come from."""
        return replace(self, users=self.users.detach(), items=self.items.detach())


@dataclass(frozen=True)
class Neighbors:
    """A scorer without item vectors: the users' histories times an item-item matrix."""

    seen: Tensor  # [users, items], sparse CSR: 1 where the user has interacted with the item
    similarity: Tensor  # [candidate items, seen items], sparse CSR or dense

    def __repr__(self) -> str:
        return f"Neighbors({self.n_users:,} users, {self.n_items:,} items)"

    @property
    def n_users(self) -> int:
        """The rows of the interaction matrix."""
        return self.seen.shape[0]

    @property
    def n_items(self) -> int:
        """The rows of the similarity matrix."""
        return self.similarity.shape[0]

    def scores(self, users: Int[Tensor, " batch"]) -> Float[Tensor, "batch items"]:
        """The summed similarity of every item to the items of each given user's history."""
        starts = self.seen.crow_indices().long()
        counts = starts[users + 1] - starts[users]
        rows, entries = positions_in_runs(starts[users], counts)
        history = self.seen.col_indices()[entries].long()
        if self.similarity.layout == torch.strided:
            return _sums_of_columns(self.similarity, history, counts.cumsum(0) - counts)
        starts, items, similarities = self._similarity_by_column
        lengths = starts[history + 1] - starts[history]
        scores = similarities.new_zeros(len(users), self.n_items)
        size = max(1, _ENTRIES * len(history) // max(int(lengths.sum()), 1))
        for row, first, length in zip(*(torch.split(x, size) for x in (rows, starts[history], lengths)), strict=True):
            of_row, entries = positions_in_runs(first, length)
            places = row[of_row] * self.n_items + items[entries]
            scores.view(-1).index_add_(0, places, similarities[entries])
        return scores

    def of_histories(self, seen: Tensor) -> Neighbors:
        """The scorer of other users, by the same similarities."""
        other = Neighbors(seen, self.similarity)
        if self.similarity.layout != torch.strided:
            other.__dict__["_similarity_by_column"] = self._similarity_by_column  # stored once for all
        return other

    @cached_property
    def _similarity_by_column(
        self,
    ) -> tuple[Int[Tensor, " starts"], Int[Tensor, " entries"], Float[Tensor, " entries"]]:
        """The start of each column of a sparse `similarity`, and its entries' rows and values, column by column.

        A history reads the columns of its few items; a product with all columns would take a hundred times as long.
        """
        parts = (self.similarity.values(), self.similarity.col_indices(), self.similarity.crow_indices())
        columns = sp.csr_array(tuple(part.cpu().numpy() for part in parts), shape=self.similarity.shape).tocsc()
        arrays = (columns.indptr.astype("int64"), columns.indices.astype("int64"), columns.data)
        starts, rows, values = (torch.from_numpy(array).to(self.similarity.device) for array in arrays)
        return starts, rows, values

    def history_scores(self, history: Float[Tensor, "items batch"]) -> Float[Tensor, "items_and_added batch"]:
        """The scores of every item for any histories, one in each column, with 1 at its items and 0 elsewhere."""
        return self.similarity @ history


def _sums_of_columns(
    matrix: Float[Tensor, "rows columns"], columns: Int[Tensor, " entries"], starts: Int[Tensor, " sums"]
) -> Float[Tensor, "sums rows"]:
    """The sum of consecutive selected columns from each start on; no copy of the matrix if it is stored by columns."""
    if not len(columns):
        return matrix.new_zeros(len(starts), len(matrix))
    if matrix.T.is_contiguous():
        return F.embedding_bag(columns, matrix.T, starts, mode="sum")
    distinct, places = torch.unique(columns, return_inverse=True)
    blocks = (block.index_select(1, distinct).T.contiguous() for block in torch.split(matrix, _ROWS))
    return torch.cat([F.embedding_bag(places, block, starts, mode="sum") for block in blocks], dim=1)
