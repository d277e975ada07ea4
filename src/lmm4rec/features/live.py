"""Features of an encoder in training: the batch's items carry gradient, the rows of others are deferred."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, TrainingError
from lmm4rec.core.types import Features, Modality, NonNegativeFloat, NonNegativeInt, PositiveInt
from lmm4rec.distributed import process_group
from lmm4rec.encoding.runner import EncoderRunner, train_mode
from lmm4rec.encoding.sizing import Precision, resolve_precision
from lmm4rec.features.item_vectors import ItemVectors
from lmm4rec.features.source import FeatureSource
from lmm4rec.nn.losses import contrastive

_CPU_PASS = 64  # items in a pass on a CPU: larger ones are no faster, and their activations leave the cache
_PROBE = 8  # items on which the memory of a pass is measured


class Live(FeatureSource):
    """The features of an encoder that trains with the recommender. This is an approximation of full training:

    - A table holds every item's latest vectors. The distinct items of a batch pass through the encoder, their vectors
      are written into their rows of the table, with gradient, and the whole table goes to the recommender. All other
      rows are as old as the last batch that had their item, or the last refresh, and get no gradient, also where an
      item graph would send them some.
    - `max_items`: at most this number of items is encoded in a pass, drawn from those of the batch; the others
      count as outside the batch. 0: no limit.
    - `every` = k: the encoder runs in every k-th step (gradient accumulation). In the k - 1 steps between, the
      recommender trains on the table as it is, and the gradient with respect to the rows of the step's items is
      accumulated. In the k-th step the items of all k steps pass through the encoder and get the accumulated gradient
      in addition to that of the step; it is out of date by up to k - 1 steps, as it belongs to the vectors before the
      pass. The last step of an epoch always has a pass; "epoch": it is the only one.
    - `refresh_every` epochs all items are encoded again, without gradient and in evaluation mode (0: never), and also
      before each validation (`validate_on = "table"`: not then), and at the end for the ranking.
    - `warm_start`: the first epochs leave the encoder as it is; the features are those at the start.
    """

    epoch: Tensor
    stale: Tensor
    _pending: Tensor

    def __init__(
        self,
        vectors: ItemVectors,
        features: Features,
        *,
        max_items: Annotated[NonNegativeInt, Doc("Items in a pass, at most, drawn at random; 0: all.")] = 0,
        every: Annotated[PositiveInt | Literal["epoch"], Doc("Steps between passes; epoch: one pass at its end.")] = 1,
        refresh_every: Annotated[NonNegativeInt, Doc("Epochs between encodings of all items; 0: never.")] = 1,
        validate_on: Annotated[Literal["fresh", "table"], Doc("Encode all items anew, or use the table.")] = "fresh",
        warm_start: Annotated[NonNegativeInt, Doc("Epochs in which the recommender trains alone.")] = 0,
        alignment_weight: Annotated[NonNegativeFloat, Doc("Weight of the contrastive loss of image and text.")] = 0.0,
        precision: Annotated[Precision, Doc("Precision of the encoder; auto: bfloat16 where it is native.")] = "auto",
        memory_mb: Annotated[PositiveInt, Doc("MiB of activations kept for the backward pass.")] = 2048,
    ) -> None:
        """`features` are the vectors to begin with; their modalities are those of the source.

        `alignment_weight` is that of a contrastive loss between the image and text vectors of the items in a pass;
        `precision` that of a pass (the table, losses and similarities are float32); `memory_mb` bounds the activations
        that are kept for the backward pass: those of the items beyond it are computed again in it.

        Raises:
            ConfigError: the encoder lacks one of the modalities, or there is no shared space to align.
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
        self.register_buffer("stale", torch.zeros((), dtype=torch.bool))  # weights have changed since the last refresh
        self.register_buffer("_pending", torch.zeros(vectors.n_items, dtype=torch.bool), persistent=False)
        self._accumulated: dict[Modality, Tensor] = {}  # gradient of the rows of pending items
        self._batches_left = self._batches_since_pass = 0
        self._warming_up = False
        self._runner: EncoderRunner | None = None
        self._losses: dict[str, Tensor] = {}
        self._has_gradient = False  # whether any gradient has arrived at the table
        self._counts = {"encoded": 0, "refreshed": 0, "encoder_passes": 0}

    def train(self, mode: bool = True) -> Live:
        """Training or evaluation; batch norms keep their statistics, since the table's rows are of many batches."""
        super().train(mode)
        train_mode(self.vectors, mode)
        return self

    def begin_epoch(self, batches: int) -> None:
        """Encode all items anew where `refresh_every` says so."""
        self.epoch += 1
        self._batches_left, self._batches_since_pass = batches, 0
        trained = int(self.epoch) - 1 - self.warm_start
        self._warming_up = trained < 0
        self.after_step()  # a scale may begin beyond its bound
        if self.refresh_every and trained > 0 and trained % self.refresh_every == 0:
            self._encode_all()

    def forward(self, items: Int[Tensor, " batch"] | None = None, generator: torch.Generator | None = None) -> Features:
        """The table. With `items` it is that of the next step: see the class.

        Raises:
            TrainingError: a step without a generator, or more steps than the epoch was begun with.
        """
        self._losses = {}
        if items is None or self._warming_up:
            return self._table()
        if generator is None or self._batches_left < 1:
            raise TrainingError("a step on live features needs a generator, and begin_epoch with the number of batches")
        self._batches_left, self._batches_since_pass = self._batches_left - 1, self._batches_since_pass + 1
        if self._batches_left and self._batches_since_pass != self.every:
            distinct = torch.unique(items)
            self._pending[distinct] = True
            return self._accumulating_table(distinct)
        self._batches_since_pass = 0
        self._pending[items] = True
        pending = self._pending.nonzero().flatten()
        self._pending.zero_()
        return self._live_table(pending, generator)

    def losses(self) -> dict[str, Float[Tensor, ""]]:
        """`alignment`, and `deferred` of value 0, whose gradient is the one accumulated in earlier steps."""
        return self._losses

    def after_step(self) -> None:
        """Put the temperature of the alignment within its bound."""
        if self.alignment_weight and not self._warming_up:
            self.vectors.bound_scale()

    def refresh(self, *, final: bool = False) -> None:
        """Encode all items where the encoder has changed since that was last done."""
        if final or self.validate_on == "fresh":
            self._encode_all()

    def epoch_counts(self) -> dict[str, int]:
        """`encoded` items with gradient, `refreshed` ones without, and `encoder_passes`, since the last call.

        Raises:
            TrainingError: none of the encoded items had any effect on the loss.
        """
        counts, self._counts = self._counts, dict.fromkeys(self._counts, 0)
        if counts["encoded"] and not self._has_gradient:
            raise TrainingError(
                "no gradient has come back to the features in a whole epoch: the recommender does not use them, "
                'so the encoder has no training signal. Take train = "frozen", or a recommender that uses content'
            )
        return counts

    def _table(self) -> dict[Modality, Tensor]:
        return {modality: self.get_buffer(f"rows_{modality}") for modality in self.modalities}

    def _accumulating_table(self, rows: Int[Tensor, " distinct"]) -> Features:
        """The table as it is; the gradient of the given rows is accumulated for the next pass."""
        leaves = {}
        for modality, table in self._table().items():
            if modality not in self._accumulated:
                self._accumulated[modality] = torch.zeros_like(table)
            leaf = leaves[modality] = table.detach().requires_grad_()
            leaf.register_hook(partial(self._accumulate, self._accumulated[modality], rows))  # type: ignore[no-untyped-call]
        return leaves

    def _accumulate(self, accumulated: Tensor, rows: Tensor, gradient: Tensor) -> None:
        accumulated.index_add_(0, rows, gradient.index_select(0, rows))
        self._has_gradient = True

    def _live_table(self, pending: Int[Tensor, " pending"], generator: torch.Generator) -> Features:
        """The table with new vectors of the pending items, which carry gradient and receive the accumulated one."""
        chosen = pending
        if 0 < self.max_items < len(pending):
            chosen = pending[torch.randperm(len(pending), generator=generator)[: self.max_items].to(pending.device)]
        chosen = self._by_length(chosen)
        vectors = self._encode(chosen, generator)
        self.stale.fill_(value=True)
        self._losses = self._own_losses(vectors, chosen)
        live = {}
        for modality, table in self._table().items():
            live[modality] = cast(Tensor, _WrittenRows.apply(vectors[modality], table, chosen))  # type: ignore[no-untyped-call]
            if live[modality].requires_grad:  # not where that modality's side of the encoder has no weights
                live[modality].register_hook(self._record_gradient)  # type: ignore[no-untyped-call]
            if modality in self._accumulated:
                self._accumulated[modality][pending] = 0.0
        return live

    def _own_losses(self, vectors: dict[Modality, Tensor], chosen: Int[Tensor, " chosen"]) -> dict[str, Tensor]:
        losses = {}
        if self._accumulated:
            # 0, but its gradient with respect to the vectors is the accumulated one
            deferred = [(vectors[m] - vectors[m].detach()).mul(g[chosen]).sum() for m, g in self._accumulated.items()]
            losses["deferred"] = torch.stack(deferred).sum()
        if self.alignment_weight:
            both = (vectors["image"].detach().any(1) & vectors["text"].detach().any(1)).nonzero().flatten()
            image, text = (F.normalize(vectors[modality][both], dim=1) for modality in ("image", "text"))
            if len(both) > 1:
                losses["alignment"] = self.alignment_weight * contrastive(
                    image, text, cast(Tensor, self.vectors.scale())
                )
        return losses

    def _record_gradient(self, gradient: Tensor) -> None:
        self._has_gradient = True

    def _encode(self, rows: Int[Tensor, " chosen"], generator: torch.Generator) -> dict[Modality, Tensor]:
        """The rows' vectors, each process encoding its share of them; noise follows from the generator."""
        runner, seed = self._sized_runner(), int(torch.randint(2**62, (), generator=generator))
        with process_group.sharing(len(rows)):
            own = process_group.local_rows(rows)
            with runner.seeded(seed + process_group.rank(), rows.device):
                columns = runner(self._vectors_of, own)
            self._count("encoded", len(rows), runner.passes(len(own)))
            return self._gathered(columns, len(rows))

    def _encode_all(self) -> None:
        """Encode all items, each process its share, without gradient and in evaluation mode."""
        if not self.stale:
            return
        runner, items = self._sized_runner(), self.vectors.n_items
        rows = self._by_length(torch.arange(items, device=self.stale.device))
        size = min(256, 4 * runner.chunk)
        with process_group.sharing(items):
            own = process_group.local_rows(rows)
            vectors = self._gathered(runner.evaluate(self._vectors_of, own, pass_rows=size), items)
        for modality, table in self._table().items():
            table.index_copy_(0, rows, vectors[modality])
        self.stale.fill_(value=False)
        self._count("refreshed", items, -(-len(own) // size))

    def _by_length(self, rows: Int[Tensor, " chosen"]) -> Int[Tensor, " chosen"]:
        """The rows by the length of their text, each process's share for itself: a pass is padded to its longest.

        Every process gets short and long ones alike.
        """
        if self.vectors.text_lengths is None:
            return rows.sort().values
        lengths = self.vectors.text_lengths[rows.cpu()].to(rows.device)
        by_length, processes = rows[lengths.argsort(stable=True)], process_group.world_size()
        return torch.cat([by_length[first::processes] for first in range(processes)])

    def _vectors_of(self, rows: Int[Tensor, " rows"]) -> tuple[Tensor, ...]:
        vectors = self.vectors(rows)
        return tuple(vectors[modality].float() for modality in self.modalities)

    def _gathered(self, columns: tuple[Tensor, ...], rows: int) -> dict[Modality, Tensor]:
        """The vectors of all processes' rows, by modality."""
        gathered = [process_group.all_gather(own, rows) for own in columns]
        return dict(zip(self.modalities, gathered, strict=True))

    def _count(self, kind: str, items: int, passes: int) -> None:
        self._counts[kind] += items
        self._counts["encoder_passes"] += passes * self.vectors.encodes

    def _sized_runner(self) -> EncoderRunner:
        """The runner of passes, of as many items as fit the memory; measured once, in the first pass."""
        if self._runner is None:
            device, items = self.stale.device, self.vectors.n_items
            precision = resolve_precision(self.precision, self.vectors, device)
            self._runner = EncoderRunner(
                self.vectors, precision=precision, pass_rows=0 if device.type == "cuda" else _CPU_PASS
            )
            probe = self._by_length(torch.arange(items, device=device))[-_PROBE:]  # the longest texts
            self._runner.fit_memory(self._vectors_of, probe, self.memory_mb)
        return self._runner


class _WrittenRows(torch.autograd.Function):
    """A table with vectors written into some rows, in place; its gradient goes to the vectors alone.

    Neither pass copies the table.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, table: Tensor, rows: Tensor) -> Tensor:
        """The table with `vectors` in the given rows."""
        ctx.save_for_backward(rows)
        table.index_copy_(0, rows, vectors.detach())
        return table.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the rows."""
        (rows,) = ctx.saved_tensors
        return gradients[0].index_select(0, rows), None, None
