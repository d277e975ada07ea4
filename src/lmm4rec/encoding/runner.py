"""How an encoder is run in training: in which precision, in what chunks, and with which noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lmm4rec.core.errors import TrainingError
from lmm4rec.core.types import Inputs
from lmm4rec.encoders.base import Encoder
from lmm4rec.nn.transformers.multiway import Multiway

Function: TypeAlias = Callable[[Inputs], tuple[Tensor, ...]]


class Passes:
    """Passes of an encoder whose noise (dropout, stochastic depth) follows from a seed.

    With `chunk` no more than that many rows are in a pass and none of their activations stays: the backward pass
    computes each chunk again, with the same noise. A batch beyond memory so has the gradient of the whole batch
    (GradCache, Gao et al. 2021, arXiv 2101.06983), for one forward pass more.
    """

    def __init__(self, encoder: Encoder, *, precision: str = "float32", chunk: int = 0) -> None:
        self.encoder, self.precision, self.chunk = encoder, precision, chunk
        self.noise = torch.Generator()  # of stochastic depth

    @contextmanager
    def attached(self, *, checkpointing: bool) -> Iterator[None]:
        """The encoder draws from this noise, and with `checkpointing` keeps only the states between its blocks.

        Raises:
            TrainingError: the encoder has no blocks that could be computed again.
        """
        stacks = [module for module in self.encoder.modules() if isinstance(module, Multiway)]
        before = [(stack.generator, stack.checkpointing) for stack in stacks]
        library = _checkpointed_by_library(self.encoder) if checkpointing and not stacks else []
        if checkpointing and not stacks and not library:
            raise TrainingError(f"{type(self.encoder).__name__} cannot be checkpointed; set checkpointing = false")
        for stack in stacks:
            stack.generator, stack.checkpointing = self.noise, stack.checkpointing or checkpointing
        for model in library:
            _switch(model, "enable", {"use_reentrant": False})
        try:
            yield
        finally:
            for stack, (generator, was) in zip(stacks, before, strict=True):
                stack.generator, stack.checkpointing = generator, was
            for model in library:
                _switch(model, "disable")

    @contextmanager
    def seeded(self, seed: int, device: torch.device) -> Iterator[None]:
        """All noise of the passes in this block follows from the seed; the global generators stay as they are."""
        self.noise.manual_seed(seed)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def __call__(self, function: Function, inputs: Inputs) -> tuple[Tensor, ...]:
        """What a function of the encoder gives for the inputs."""
        rows = max(len(values) for values in inputs if values is not None)
        if not self.chunk or rows <= self.chunk or not torch.is_grad_enabled():
            return self._run(function, inputs)
        parts = [self._again(function, _cut(inputs, start, self.chunk)) for start in range(0, rows, self.chunk)]
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def _again(self, function: Function, inputs: Inputs) -> tuple[Tensor, ...]:
        """A pass of which nothing but inputs and outputs is kept for the backward pass."""

        def contexts() -> tuple[Any, Any]:
            return nullcontext(), _rewound(self.noise, self.noise.get_state())

        out: tuple[Tensor, ...] = checkpoint(
            lambda *values: self._run(function, Inputs(*values)), *inputs, use_reentrant=False, context_fn=contexts
        )
        return out

    def _run(self, function: Function, inputs: Inputs) -> tuple[Tensor, ...]:
        device = next(self.encoder.parameters()).device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            return function(inputs)


@contextmanager
def _rewound(generator: torch.Generator, state: Tensor) -> Iterator[None]:
    """The generator as it was at `state`, and after the block where it is now."""
    now = generator.get_state()
    generator.set_state(state)
    try:
        yield
    finally:
        generator.set_state(now)


def _cut(inputs: Inputs, start: int, size: int) -> Inputs:
    return Inputs(*(None if values is None else values[start : start + size] for values in inputs))


def _switch(model: Any, way: str, *arguments: Any) -> None:
    """transformers calls it activation checkpointing from 5.2x on, and warns where it is called as it was before."""
    kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    getattr(model, f"{kind}_checkpointing_{way}")(*arguments)


def _checkpointed_by_library(encoder: Encoder) -> list[Any]:
    """The models of transformers in the encoder that can compute their blocks again, outermost ones alone."""
    model: Any = getattr(encoder, "model", None)
    able = getattr(model, "supports_gradient_checkpointing", False)
    on = model.modules() if able else ()
    return [model] if able and not any(getattr(part, "gradient_checkpointing", False) for part in on) else []
