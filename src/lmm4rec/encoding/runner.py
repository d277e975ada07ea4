"""The runner of encoders, for all uses: modes, precision, chunks, memory, activation checkpointing, seeded noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lmm4rec.core.errors import TrainingError
from lmm4rec.core.types import Inputs, Modality
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.sizing import MB, ResolvedPrecision, kept_bytes
from lmm4rec.nn.transformers.multiway import Multiway

RowFunction: TypeAlias = Callable[..., tuple[Tensor, ...]]
"""A function of tensors with the same rows (None for an absent one) that returns tensors with these rows."""


class EncoderRunner:
    """Passes through a module (an encoder, or one around an encoder) whose noise follows from a seed.

    With `chunk`, the activations of no more than that many rows are kept, those of the last ones: the rows before them
    pass chunk by chunk, and the backward pass computes each chunk again with the same noise, after it has freed what
    was kept. The gradient is that of all rows together (GradCache, Gao et al. 2021, arXiv 2101.06983), for one forward
    pass more of the rows that are not kept. `pass_rows` bounds the rows of one pass also where activations are kept.
    """

    def __init__(self, module: nn.Module, *, precision: ResolvedPrecision, chunk: int = 0, pass_rows: int = 0) -> None:
        """0 is no bound, for `chunk` as for `pass_rows`."""
        self.module, self.precision, self.chunk, self.pass_rows = module, precision, chunk, pass_rows
        self.noise = torch.Generator()  # of stochastic depth

    @contextmanager
    def checkpointed(self, *, enabled: bool) -> Iterator[None]:
        """Activation checkpointing inside the encoder, where enabled: only the states between blocks are kept.

        Raises:
            TrainingError: the encoder has no blocks that could be computed again.
        """
        if not enabled:
            yield
            return
        stacks = self._stacks()
        library = [] if stacks else _checkpointed_by_library(self.module)
        if not stacks and not library:
            raise TrainingError(f"{type(self.module).__name__} cannot be checkpointed; set checkpointing = false")
        before = [stack.checkpointing for stack in stacks]
        for stack in stacks:
            stack.checkpointing = True
        for model in library:
            _set_library_checkpointing(model, "enable", {"use_reentrant": False})
        try:
            yield
        finally:
            for stack, was in zip(stacks, before, strict=True):
                stack.checkpointing = was
            for model in library:
                _set_library_checkpointing(model, "disable")

    @contextmanager
    def seeded(self, seed: int, device: torch.device) -> Iterator[None]:
        """A context in which all noise of the passes follows from the seed; the global generators do not change."""
        self.noise.manual_seed(seed)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def __call__(self, function: RowFunction, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        """The function's results for all rows, with gradient."""
        again, kept = self._chunks(_row_count(tensors))
        parts = [self._run_again_in_backward(function, *_slices(tensors, chunk)) for chunk in again]
        with autocast(self._device, self.precision):  # around all chunks, so that weights are cast once
            parts += [self._run(function, *_slices(tensors, chunk)) for chunk in kept]
        return _concatenate(parts)

    def encode(self, function: Callable[[Inputs], tuple[Tensor, ...]], inputs: Inputs) -> tuple[Tensor, ...]:
        """The results of a function of inputs, with gradient."""
        return self(lambda *tensors: function(Inputs(*tensors)), *inputs)

    def evaluate(self, function: RowFunction, rows: Int[Tensor, " rows"], *, pass_rows: int) -> tuple[Tensor, ...]:
        """The function's results for all rows, in evaluation mode and without gradient."""
        with evaluating(self.module, self._device, self.precision):
            return _concatenate([function(chunk) for chunk in torch.split(rows, pass_rows)])

    def passes(self, rows: int) -> int:
        """The number of passes for a number of rows."""
        return sum(map(len, self._chunks(rows)))

    def fit_memory(self, function: RowFunction, probe: Int[Tensor, " probe"], memory_mb: int) -> None:
        """Set `chunk` to the rows whose activations fit `memory_mb`, measured in training on the rows of `probe`."""
        with in_mode(self.module, training=True), self.seeded(0, self._device), torch.enable_grad():
            kept = kept_bytes(self.module, lambda: self._run(function, probe)) // len(probe)
        self.chunk = max(1, memory_mb * MB // max(kept, 1))

    def _chunks(self, rows: int) -> tuple[list[slice], list[slice]]:
        """The chunks that are computed again in the backward pass, and after them those whose activations are kept."""
        bounded = self.chunk and torch.is_grad_enabled()
        again = max(rows - self.chunk, 0) if bounded else 0
        size = min(filter(None, (self.pass_rows, self.chunk if again else 0)), default=max(rows, 1))
        return _cut(0, again, size), _cut(again, max(rows, 1), size)  # no rows, too, take a pass

    def _run_again_in_backward(self, function: RowFunction, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        """A pass of which only inputs and outputs are kept for the backward pass."""

        def contexts() -> tuple[Any, Any]:
            return nullcontext(), _rewound(self.noise, self.noise.get_state())

        results: tuple[Tensor, ...] = checkpoint(
            lambda *values: self._run(function, *values), *tensors, use_reentrant=False, context_fn=contexts
        )
        return results

    def _run(self, function: RowFunction, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        with _drawing_from(self.noise, self._stacks()), autocast(self._device, self.precision):
            return function(*tensors)

    def _stacks(self) -> list[Multiway]:
        return [module for module in self.module.modules() if isinstance(module, Multiway)]

    @property
    def _device(self) -> torch.device:
        return next(self.module.parameters()).device


def masked_vectors(encoder: Encoder, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
    """The encoder's vectors as float32; zeros where an item lacks the modality."""
    vectors, present = encoder(inputs), encoder.present(inputs)
    return {
        modality: torch.where(present[modality][:, None], vectors[modality].float(), 0.0) for modality in encoder.dims
    }


def autocast(device: torch.device, precision: ResolvedPrecision) -> torch.autocast:
    """A context in which operations have the precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def evaluating(module: nn.Module, device: torch.device, precision: ResolvedPrecision) -> Iterator[None]:
    """A context of evaluation mode without gradient, in the precision; afterwards modules have their earlier modes."""
    # not inference_mode: only without it does autocast keep the weights that it has cast for the next batch
    with in_mode(module, training=False), torch.no_grad(), autocast(device, precision):
        yield


@contextmanager
def in_mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """A context of training or evaluation mode; afterwards modules have their earlier modes."""
    before = {one: one.training for one in module.modules()}
    train_mode(module, training)
    try:
        yield
    finally:
        for one, was_training in before.items():
            one.training = was_training


def train_mode(module: nn.Module, mode: bool) -> None:
    """Set training or evaluation mode; batch norms keep their statistics in both."""
    module.train(mode)
    for one in module.modules():
        if isinstance(one, nn.modules.batchnorm._BatchNorm):
            one.eval()


@contextmanager
def _drawing_from(noise: torch.Generator, stacks: list[Multiway]) -> Iterator[None]:
    """A context in which the stacks draw their stochastic depth from the generator."""
    before = [stack.generator for stack in stacks]
    for stack in stacks:
        stack.generator = noise
    try:
        yield
    finally:
        for stack, generator in zip(stacks, before, strict=True):
            stack.generator = generator


@contextmanager
def _rewound(generator: torch.Generator, state: Tensor) -> Iterator[None]:
    """A context in which the generator has an earlier state; afterwards it has its present one."""
    now = generator.get_state()
    generator.set_state(state)
    try:
        yield
    finally:
        generator.set_state(now)


def _row_count(tensors: tuple[Tensor | None, ...]) -> int:
    return max(len(values) for values in tensors if values is not None)


def _cut(start: int, stop: int, size: int) -> list[slice]:
    return [slice(begin, min(begin + size, stop)) for begin in range(start, stop, size)]


def _slices(tensors: tuple[Tensor | None, ...], rows: slice) -> tuple[Tensor | None, ...]:
    return tuple(None if one is None else one[rows] for one in tensors)


def _concatenate(parts: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return parts[0] if len(parts) == 1 else tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _set_library_checkpointing(model: Any, way: str, *arguments: Any) -> None:
    """transformers calls it activation checkpointing from 5.2x on, and warns where it is called as it was before."""
    kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    getattr(model, f"{kind}_checkpointing_{way}")(*arguments)


def _checkpointed_by_library(encoder: nn.Module) -> list[Any]:
    """The model of transformers in the encoder, where it can compute its blocks again and does not do so yet."""
    model: Any = getattr(encoder, "model", None)
    able = getattr(model, "supports_gradient_checkpointing", False)
    on = model.modules() if able else ()
    return [model] if able and not any(getattr(part, "gradient_checkpointing", False) for part in on) else []
