"""Item vectors from cached states: the top blocks train, or a side network does."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.core.types import Inputs, Modality, NonNegativeInt, PositiveInt
from lmm4rec.encoders.base import Encoder
from lmm4rec.features.item_vectors import ItemVectors
from lmm4rec.features.side_files import SavedSide
from lmm4rec.features.state_cache import StatesCache
from lmm4rec.features.state_files import STATES, VECTORS
from lmm4rec.nn.adapters.side import SideNetwork
from lmm4rec.nn.transformers.towers import upper_parameters

__all__ = ["SideVectors", "TopBlocks"]


class TopBlocks(ItemVectors):
    """The top blocks of an encoder, and what follows them, on the cached states below.

    These train; the lower blocks are frozen and never run. What both parts read, such as one table of biases for all
    blocks, is frozen, too: the cached states would no longer be its own.
    """

    def __init__(self, encoder: Encoder, cache: StatesCache) -> None:
        """Fills the cache where it is not there yet (see `StatesCache.fill`)."""
        super().__init__()
        top = cache.top
        assert top is not None
        self.encoder, self.states, self.top = encoder, cache.fill(), top
        self.dims, self.n_items = dict(encoder.dims), self.states.n_items
        self._towers = cache.towers  # no modules: they only look at the encoder's
        upper = {id(one) for one in upper_parameters(encoder, self._towers, cache.sample(1), top)}
        for parameter in encoder.parameters():
            parameter.requires_grad_(id(parameter) in upper)

    def forward(self, items: Int[Tensor, " chosen"]) -> dict[Modality, Float[Tensor, "chosen _dim"]]:
        """The vectors of the given catalog rows; zeros where an item lacks the modality."""
        items, device = items.cpu(), next(self.encoder.parameters()).device
        return {modality: self._vectors(modality, items, device) for modality in self.dims}

    def scale(self) -> Float[Tensor, ""] | None:
        """The inverse temperature that the encoder has learned before, where image and text share a space."""
        return _scale(self.encoder)

    def _vectors(self, modality: Modality, items: Tensor, device: torch.device) -> Tensor:
        rows = self.states.present(modality, items).nonzero().flatten()
        vectors = torch.zeros(len(items), self.dims[modality], device=device)
        if not len(rows):
            return vectors
        tower, chosen = self._towers[modality], items[rows]
        rest = _to(self.states.inputs(chosen), device)
        kept = tower.kept(rest)
        taken = self.states.take(modality, chosen).to(device)
        states = taken.new_zeros(*kept.shape, taken.shape[1], dtype=torch.float32)
        states[kept] = taken.float()
        made = tower.upper(states, rest, tower.depth - self.top)
        return vectors.index_copy(0, rows.to(device), made.float())


class SideVectors(ItemVectors):
    """A side network on one cached vector a state; the encoder is not needed any more.

    It starts as the frozen encoder: see `SideNetwork`, which also says what `dim` and `stride` are.
    """

    encodes = False
    temperature: Tensor | None

    def __init__(
        self, cache: StatesCache, *, dim: PositiveInt = 64, stride: PositiveInt = 2, seed: NonNegativeInt = 0
    ) -> None:
        """Fills the cache where it is not there yet (see `StatesCache.fill`)."""
        super().__init__()
        self.dims = dict(cache.encoder.dims)
        self.states = cache.fill()
        self.n_items = self.states.n_items
        shapes = {modality: self.states.shape(modality) for modality in self.dims}
        states = {modality: (shape[0], shape[1]) for modality, shape in shapes.items()}
        self.side = SideNetwork(states, self.dims, torch.Generator().manual_seed(seed), dim=dim, stride=stride)
        scale = _scale(cache.encoder)
        self.register_buffer("temperature", None if scale is None else scale.detach().clone(), persistent=False)
        shape = {"states": states, "dims": self.dims, "dim": dim, "stride": stride}
        self.facts = {**shape, "stored": cache.stored, "encoder": cache.encoder.fingerprint()}

    def forward(self, items: Int[Tensor, " chosen"]) -> dict[Modality, Float[Tensor, "chosen _dim"]]:
        """The vectors of the given catalog rows; zeros where an item lacks the modality."""
        items, device = items.cpu(), next(self.side.parameters()).device
        present = {modality: self.states.present(modality, items) for modality in self.dims}
        states = {modality: self._rows(modality, items, present[modality]).to(device) for modality in self.dims}
        own = {modality: self._rows(modality, items, present[modality], VECTORS).to(device) for modality in self.dims}
        return self.side(states, own, {modality: rows.to(device) for modality, rows in present.items()})

    def scale(self) -> Float[Tensor, ""] | None:
        """The inverse temperature that the encoder has learned before, where image and text share a space."""
        return self.temperature

    def save(self, folder: Path) -> None:
        """Write the side network into a folder: see `SavedSide`."""
        weights = {name: one.detach().cpu().contiguous() for name, one in self.side.state_dict().items()}
        SavedSide(self.facts, weights).write(folder)

    def _rows(self, modality: Modality, items: Tensor, present: Tensor, tensor: str = STATES) -> Tensor:
        """One row an item, zeros where it lacks the modality."""
        taken = self.states.take(modality, items[present], tensor)
        if len(taken) == len(items):
            return taken
        rows = taken.new_zeros(len(items), *taken.shape[1:])
        rows[present] = taken
        return rows


def _scale(encoder: Encoder) -> Tensor | None:
    learned = getattr(encoder, "logit_scale", None)
    return learned.exp() if isinstance(learned, Tensor) and {"image", "text"} <= set(encoder.dims) else None


def _to(inputs: Inputs, device: torch.device) -> Inputs:
    return Inputs(*(None if values is None else values.to(device) for values in inputs))
