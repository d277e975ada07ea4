"""A trained side network on disk, and the encoder that consists of it and the frozen one."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lmm4rec.core.errors import CheckpointError
from lmm4rec.core.files import read_json, write_json
from lmm4rec.core.tensor_files import read_tensors, save_tensors
from lmm4rec.core.types import Inputs, Item, Modality
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.sizing import ResolvedPrecision
from lmm4rec.features.state_cache import summaries, towers_of
from lmm4rec.features.state_files import STATES, VECTORS
from lmm4rec.nn.adapters.side import SideNetwork

_WEIGHTS, _FACTS = "side.safetensors", "side.json"


@dataclass(frozen=True)
class SavedSide:
    """A side network as plain values and tensors.

    The facts are the arguments of a network of its shape, the precision in which the states were `stored`, and the
    fingerprint of the `encoder` beside which it was trained.
    """

    facts: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    @classmethod
    def read(cls, folder: Path) -> SavedSide:
        """The side network that `write` saved in a folder.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        return cls(read_json(folder / _FACTS), read_tensors(folder / _WEIGHTS)[0])

    def write(self, folder: Path) -> None:
        """Write the weights as `side.safetensors` and the facts as `side.json`."""
        save_tensors(folder / _WEIGHTS, self.weights)
        write_json(folder / _FACTS, self.facts)

    def network(self) -> SideNetwork:
        """The side network.

        Raises:
            CheckpointError: facts and weights do not belong together.
        """
        facts = self.facts
        try:
            states = {modality: (int(count), int(width)) for modality, (count, width) in facts["states"].items()}
            side = SideNetwork(states, facts["dims"], torch.Generator(), dim=facts["dim"], stride=facts["stride"])
            side.load_state_dict(dict(self.weights))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"the side network is damaged ({reason}); run the experiment again") from None
        return side

    @property
    def stored(self) -> ResolvedPrecision:
        """The precision of the states that it was trained on; the default where older files do not record it."""
        return "float32" if self.facts.get("stored") == "float32" else "bfloat16"


class SideEncoder(Encoder):
    """A frozen encoder and the side network that was trained beside it, for items of any catalog.

    Its modalities are those of the side network and come from one pass, since each depends on which others an item has.
    """

    def __init__(self, encoder: Encoder, saved: SavedSide) -> None:
        """Raises CheckpointError where the side network was trained beside another encoder."""
        super().__init__()
        encoder = encoder.with_modalities(tuple(saved.facts.get("dims", ())))
        if encoder.fingerprint() != saved.facts.get("encoder"):
            raise CheckpointError(
                f"the side network was trained beside an encoder with other weights or settings than this "
                f"{type(encoder).__name__}: its checkpoint has changed; export with a copy of the encoder "
                "(lmm4rec export)"
            )
        self.encoder, self.side, self.stored = encoder, saved.network(), saved.stored
        self.dims, self.text, self.joint = dict(encoder.dims), encoder.text, encoder.joint
        self._states = {modality: tuple(shape) for modality, shape in saved.facts["states"].items()}
        self._towers = towers_of(encoder, 0)  # no modules of their own, but references to the encoder's
        self._observing = threading.Lock()  # towers hang hooks on the encoder's blocks meanwhile

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """The inputs of the encoder."""
        return self.encoder.prepare(items)

    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """The side network's vectors; zeros where an item lacks the modality."""
        present, states, own = self.encoder.present(inputs), {}, {}
        for modality, tower in self._towers.items():
            rows = present[modality]
            states[modality] = torch.zeros(len(rows), *self._states[modality], device=rows.device)
            own[modality] = torch.zeros(len(rows), self.dims[modality], device=rows.device)
            if not rows.any():
                continue
            having = inputs.rows(rows)
            with self._observing:
                summary = summaries(self.encoder, tower, having, self.stored)
            states[modality][rows] = summary[STATES].float()
            own[modality][rows] = summary[VECTORS]
        return cast(dict[Modality, Tensor], self.side(states, own, present))

    def unreadable(self, items: Sequence[Item], inputs: Inputs) -> Bool[Tensor, " batch"]:
        """As of the encoder."""
        return self.encoder.unreadable(items, inputs)

    def item_digest(self, item: Item) -> str:
        """As of the encoder."""
        return self.encoder.item_digest(item)

    def settings(self) -> dict[str, object]:
        """The encoder's settings, and the precision of its states."""
        return {"encoder": type(self.encoder).__name__, **self.encoder.settings(), "stored": self.stored}
