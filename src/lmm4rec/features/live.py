"""Features from an encoder that is in training: the batch's items carry gradient, the others wait their turn."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lmm4rec.core.errors import ConfigError, TrainingError
from lmm4rec.core.types import Features, Modality, NonNegativeFloat, NonNegativeInt, PositiveInt
from lmm4rec.distributed import process_group
from lmm4rec.encoding import sizing
from lmm4rec.encoding.modes import Renewed, in_mode, seeded, train_mode
from lmm4rec.encoding.sizing import Precision
from lmm4rec.features.item_vectors import ItemVectors
from lmm4rec.features.source import FeatureSource
from lmm4rec.nn.losses import contrastive

__all__ = ["Live"]

_LARGEST_SCALE = 100.0  # CLIP's bound on the inverse temperature (arXiv 2103.00020, sec. 2.5)
_CPU_PIECE = 64  # items at once on a CPU: larger ones are no faster, and their activations leave the cache


class Live(FeatureSource):
    """The features of an encoder that trains with the recommender. This is an approximation of full training:

    - A table holds every item's latest vectors. The distinct items of a batch pass through the encoder, their vectors
      take their rows of the table, with gradient, and the whole table goes to the recommender. All other rows are as
      old as the last time that their item was met, or the last refresh, and get no gradient, also where a graph of
      items would send them some.
    - `max_items`: at most so many items go through the encoder in a pass, drawn from those met; the others count as
      outside the batch. 0: no limit.
    - `every` = k: the recommender takes k - 1 steps on the table as it stands, while the gradient of the loss with
      respect to the rows of each step's items adds up. The k-th step is live as above, but for all items met since
      the last pass, which also receive the gradient that has added up for them: it was taken at the vectors, and with
      the encoder, of before. "epoch": one pass at the end of an epoch, where each pass ends at the latest.
    - `refresh_every` epochs all items are encoded again, without gradient and in evaluation mode (0: never). So is
      done before each validation (`validate_on = "table"`: not there), and at the end for what is ranked.
    - `warm_start`: the first epochs leave the encoder alone; the features are those that were given.
    """

    epoch: Tensor
    stale: Tensor
    _met: Tensor

    def __init__(
        self,
        vectors: ItemVectors,
        features: Features,
        *,
        max_items: NonNegativeInt = 0,
        every: PositiveInt | Literal["epoch"] = 1,
        refresh_every: NonNegativeInt = 1,
        validate_on: Literal["fresh", "table"] = "fresh",
        warm_start: NonNegativeInt = 0,
        alignment_weight: NonNegativeFloat = 0.0,
        precision: Precision = "auto",
        memory_mb: PositiveInt = 2048,
    ) -> None:
        """`features` are the vectors to begin with; their modalities are those that are given.

        `alignment_weight` is that of a contrastive loss between the image and text vectors of the items in a pass;
        `precision` that of a pass (the table, losses and similarities are float32); `memory_mb` bounds what a pass
        keeps for its backward pass: where more items are met, they are taken in turn and computed anew in it.

        Raises:
            ConfigError: there is a modality that the encoder does not give, or no shared space to align.
        """
        super().__init__()
        self.vectors, self.modalities = vectors, tuple(features)
        for modality, rows in features.items():
            if rows.shape != (vectors.n_items, vectors.dims.get(modality, 0)):
                raise ConfigError(
                    f"the features have {modality} {tuple(rows.shape)}, the encoder gives {dict(vectors.dims)} for "
                    f"{vectors.n_items} items"
                )
            self.register_buffer(f"rows_{modality}", rows.detach().clone())
        if alignment_weight and (vectors.scale() is None or not {"image", "text"} <= set(features)):
            raise ConfigError(
                f"alignment_weight = {alignment_weight} needs image and text in one space; the encoder has none, or "
                f"not both are among the modalities in use ({', '.join(features)}): set it to 0"
            )
        self.max_items, self.every, self.refresh_every = max_items, every, refresh_every
        self.validate_on, self.warm_start, self.alignment_weight = validate_on, warm_start, alignment_weight
        self.precision, self.memory_mb = precision, memory_mb
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self.register_buffer("stale", torch.zeros((), dtype=torch.bool))  # the encoder has moved since all were encoded
        self.register_buffer("_met", torch.zeros(vectors.n_items, dtype=torch.bool), persistent=False)
        self._owed: dict[Modality, Tensor] = {}  # the gradient that has added up, a row an item
        self._left = self._since = 0  # batches to come in the epoch, batches since the last pass
        self._warming_up = False
        self._fitting = 0  # items that are encoded at once; 0: not known yet
        self._losses: dict[str, Tensor] = {}
        self._reached = False  # whether any gradient has come back to the table
        self._counts = {"encoded": 0, "refreshed": 0, "encoder_passes": 0}

    def train(self, mode: bool = True) -> Live:
        """Training or evaluation; batch norms keep their statistics, since the table's rows are of many batches."""
        super().train(mode)
        train_mode(self.vectors, mode)
        return self

    def begin_epoch(self, batches: int) -> None:
        """Encode all items anew where it is time."""
        self.epoch += 1
        self._left, self._since = batches, 0
        trained = int(self.epoch) - 1 - self.warm_start
        self._warming_up = trained < 0
        if self.refresh_every and trained > 0 and trained % self.refresh_every == 0:
            self._refresh()

    def forward(self, items: Int[Tensor, " batch"] | None = None, generator: torch.Generator | None = None) -> Features:
        """The table. With `items` it is that of the next step: see the class.

        Raises:
            TrainingError: a step without a generator, or more steps than the epoch was begun with.
        """
        self._losses = {}
        if items is None or self._warming_up:
            return self._table()
        if generator is None or self._left < 1:
            raise TrainingError("a step on live features needs a generator, and begin_epoch with the number of batches")
        self._left, self._since = self._left - 1, self._since + 1
        if self._left and self._since != self.every:
            distinct = torch.unique(items)
            self._met[distinct] = True
            return self._noted(distinct)
        self._since = 0
        self._met[items] = True
        met = self._met.nonzero().flatten()
        self._met.zero_()
        return self._live(met, generator)

    def losses(self) -> dict[str, Float[Tensor, ""]]:
        """`alignment`, and what brings the encoder the gradient of earlier steps: `deferred`, whose value is 0."""
        return self._losses

    def settle(self, *, final: bool = False) -> None:
        """Encode all items where the encoder has moved since that was done last."""
        if final or self.validate_on == "fresh":
            self._refresh()

    def facts(self) -> dict[str, int]:
        """`encoded` items with gradient, `refreshed` ones without, and `encoder_passes`, since it was last asked.

        Raises:
            TrainingError: nothing of what was encoded had any effect on the loss.
        """
        counts, self._counts = self._counts, dict.fromkeys(self._counts, 0)
        if counts["encoded"] and not self._reached:
            raise TrainingError(
                "no gradient has come back to the features in a whole epoch: the recommender does not look at them, "
                'so there is nothing to train the encoder on. Take train = "frozen", or a recommender that uses content'
            )
        return counts

    def _table(self) -> dict[Modality, Tensor]:
        return {modality: self.get_buffer(f"rows_{modality}") for modality in self.modalities}

    def _noted(self, rows: Int[Tensor, " met"]) -> Features:
        """The table as it stands; what gradient arrives at the given rows is added to what is owed to the encoder."""
        noted = {}
        for modality, table in self._table().items():
            if modality not in self._owed:
                self._owed[modality] = torch.zeros_like(table)
            noted[modality] = table.detach().requires_grad_()
            noted[modality].register_hook(partial(self._owe, self._owed[modality], rows))  # type: ignore[no-untyped-call]
        return noted

    def _owe(self, owed: Tensor, rows: Tensor, gradient: Tensor) -> None:
        owed.index_add_(0, rows, gradient.index_select(0, rows))
        self._reached = True

    def _live(self, met: Int[Tensor, " met"], generator: torch.Generator) -> Features:
        """The table with new vectors of the items met, which carry gradient; what is owed is paid with it."""
        chosen = met
        if 0 < self.max_items < len(met):
            order = torch.randperm(len(met), generator=generator)[: self.max_items]
            chosen = met[order.sort().values.to(met.device)]
        made = self._encode(chosen, generator)
        self.stale.fill_(value=True)
        self._losses = self._own_losses(made, chosen)
        live = {}
        for modality, table in self._table().items():
            live[modality] = cast(Tensor, Renewed.apply(made[modality], table, chosen))  # type: ignore[no-untyped-call]
            if live[modality].requires_grad:  # not where that modality's side of the encoder has no weights
                live[modality].register_hook(self._note_reached)  # type: ignore[no-untyped-call]
            if modality in self._owed:
                self._owed[modality][met] = 0.0
        return live

    def _own_losses(self, made: dict[Modality, Tensor], chosen: Int[Tensor, " chosen"]) -> dict[str, Tensor]:
        losses = {}
        if self._owed:
            # 0, but its gradient with respect to the vectors is the one that has added up
            owed = [(made[m] - made[m].detach()).mul(rows[chosen]).sum() for m, rows in self._owed.items()]
            losses["deferred"] = torch.stack(owed).sum()
        if self.alignment_weight:
            both = (made["image"].detach().any(1) & made["text"].detach().any(1)).nonzero().flatten()
            image, text = (F.normalize(made[modality][both], dim=1) for modality in ("image", "text"))
            scale = cast(Tensor, self.vectors.scale()).clamp(max=_LARGEST_SCALE)
            if len(both) > 1:
                losses["alignment"] = self.alignment_weight * contrastive(image, text, scale)
        return losses

    def _note_reached(self, gradient: Tensor) -> None:
        self._reached = True

    def _encode(self, rows: Int[Tensor, " chosen"], generator: torch.Generator) -> dict[Modality, Tensor]:
        """The rows' vectors, each process encoding its share of them; dropout draws from the generator."""
        shared = len(rows) >= process_group.world_size()  # else each process encodes all of them
        own = process_group.local_rows(rows) if shared else rows
        seed = int(torch.randint(2**62, (), generator=generator)) + (process_group.rank() if shared else 0)
        fitting = self._chunk()
        pieces = torch.split(own, fitting if own.is_cuda else min(fitting, _CPU_PIECE))
        with seeded(rows.device, seed), self._autocast():
            if len(own) > fitting:
                parts = [cast(Any, checkpoint)(self.vectors, piece, use_reentrant=False) for piece in pieces]
            else:
                parts = [self.vectors(piece) for piece in pieces]
        self._count("encoded", len(rows), len(pieces))
        return {m: self._joined(parts, m, len(rows) if shared else 0) for m in self.modalities}

    def _joined(self, parts: list[dict[Modality, Tensor]], modality: Modality, shared: int) -> Tensor:
        """One modality of the pieces; where `shared` rows are over all processes, that of all of these."""
        own = torch.cat([part[modality].float() for part in parts])
        return process_group.all_gather(own, shared) if shared else own

    def _refresh(self) -> None:
        """Encode all items, each process its share, without gradient and in evaluation mode."""
        if not self.stale:
            return
        size, items = min(256, 4 * self._chunk()), self.vectors.n_items
        own = process_group.local_rows(torch.arange(items, device=self.stale.device))
        with in_mode(self.vectors, training=False), torch.no_grad(), self._autocast():
            pieces = torch.split(own, size)
            parts = [self.vectors(piece) for piece in pieces]
            for modality, table in self._table().items():
                table.copy_(self._joined(parts, modality, items))
        self.stale.fill_(value=False)
        self._count("refreshed", items, len(pieces))

    def _count(self, what: str, items: int, passes: int) -> None:
        self._counts[what] += items
        self._counts["encoder_passes"] += passes * self.vectors.encodes

    def _autocast(self) -> torch.autocast:
        device = self.stale.device
        low = sizing.precision(self.precision, self.vectors, device) == "bfloat16"
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=low)

    def _chunk(self) -> int:
        """How many items' activations fit the memory, by what autograd keeps of a few in training."""
        if not self._fitting:
            device, items = self.stale.device, self.vectors.n_items
            some = torch.linspace(0, items - 1, min(8, items), device=device).long()
            with in_mode(self.vectors, training=True), seeded(device, 0), self._autocast(), torch.enable_grad():
                each = sizing.kept_bytes(self.vectors, some) // len(some)
            self._fitting = max(1, self.memory_mb * 2**20 // max(each, 1))
        return self._fitting
