"""Item vectors from cached states, where the top blocks of an encoder or a side network train."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.core.types import Modality, NonNegativeInt, PositiveInt
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.shared_space import LARGEST_LOG_SCALE, shared_spaces
from lmm4rec.features.item_vectors import ItemVectors
from lmm4rec.features.side_files import SavedSide
from lmm4rec.features.state_cache import StatesCache
from lmm4rec.features.state_files import STATES, VECTORS
from lmm4rec.nn.adapters.side import SideNetwork
from lmm4rec.nn.transformers.towers import upper_parameters


class TopBlocks(ItemVectors):
    """The top blocks of an encoder and the layers above them, on the cached states below.

    These train; the lower blocks are frozen and never run. Parameters that both parts read, such as one table of
    biases for all blocks, are frozen, too: else the cached states would no longer be theirs.
    """

    def __init__(self, encoder: Encoder, cache: StatesCache) -> None:
        """The cache is filled first where it is not complete (see `StatesCache.fill`)."""
        super().__init__()
        top = cache.top
        assert top is not None
        self.encoder, self.states, self.top = encoder, cache.fill(), top
        self.dims, self.n_items = dict(cache.encoder.dims), self.states.n_items
        self.text_lengths = self.states.text_lengths
        self.spaces = shared_spaces(cache.encoder)
        self._towers = cache.towers  # no modules of their own, but references to the encoder's
        upper = {id(one) for one in upper_parameters(encoder, self._towers, cache.sample(1), top)}
        for parameter in encoder.parameters():
            parameter.requires_grad_(id(parameter) in upper)

    def forward(self, items: Int[Tensor, " chosen"]) -> dict[Modality, Float[Tensor, "chosen _dim"]]:
        """The vectors of the given catalog rows; zeros where an item lacks the modality."""
        items, device = items.cpu(), next(self.encoder.parameters()).device
        return {modality: self._vectors(modality, items, device) for modality in self.dims}

    def _vectors(self, modality: Modality, items: Tensor, device: torch.device) -> Tensor:
        rows = self.states.present(modality, items).nonzero().flatten()
        vectors = torch.zeros(len(items), self.dims[modality], device=device)
        if not len(rows):
            return vectors
        tower, chosen = self._towers[modality], items[rows]
        inputs = self.states.inputs(chosen).to(device)
        kept = tower.kept(inputs)
        stored = self.states.read(modality, chosen).to(device)
        states = stored.new_zeros(*kept.shape, stored.shape[1], dtype=torch.float32)
        states[kept] = stored.float()
        upper = tower.upper(states, inputs, tower.depth - self.top)
        return vectors.index_copy(0, rows.to(device), upper.float())


class SideVectors(ItemVectors):
    """A side network on one cached vector a state; the encoder itself is no longer needed.

    It starts as the frozen encoder: see `SideNetwork`, which also says what `dim` and `stride` are.
    """

    encodes = False
    temperature: Tensor | None

    def __init__(
        self, cache: StatesCache, *, dim: PositiveInt = 64, stride: PositiveInt = 2, seed: NonNegativeInt = 0
    ) -> None:
        """The cache is filled first where it is not complete (see `StatesCache.fill`)."""
        super().__init__()
        self.dims = dict(cache.encoder.dims)
        self.states = cache.fill()
        self.n_items = self.states.n_items
        shapes = {modality: self.states.shape(modality) for modality in self.dims}
        states = {modality: (shape[0], shape[1]) for modality, shape in shapes.items()}
        self.side = SideNetwork(states, self.dims, torch.Generator().manual_seed(seed), dim=dim, stride=stride)
        scales = [space.scale().detach().clone() for space in shared_spaces(cache.encoder)[:1]]
        bounded = scales[0].clamp(max=math.exp(LARGEST_LOG_SCALE)) if scales else None
        self.register_buffer("temperature", bounded, persistent=False)
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
        """The inverse temperature that the frozen encoder has learned, where image and text share a space."""
        return self.temperature

    def save(self, folder: Path) -> None:
        """Write the side network into a folder: see `SavedSide`."""
        weights = {name: one.detach().cpu().contiguous() for name, one in self.side.state_dict().items()}
        SavedSide(self.facts, weights).write(folder)

    def _rows(self, modality: Modality, items: Tensor, present: Tensor, tensor: str = STATES) -> Tensor:
        """One row an item, zeros where it lacks the modality."""
        stored = self.states.read(modality, items[present], tensor)
        if len(stored) == len(items):
            return stored
        rows = stored.new_zeros(len(items), *stored.shape[1:])
        rows[present] = stored
        return rows
