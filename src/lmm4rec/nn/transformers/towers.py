"""Towers: an encoder's stacks of blocks, one per modality, that can be observed and entered at any block."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lmm4rec.core.types import Inputs, Modality
from lmm4rec.nn.inputs import text_mask

States: TypeAlias = Float[Tensor, "batch tokens _width"]
"""The hidden states between blocks."""


@dataclass(frozen=True)
class Tower:
    """The path of one modality through an encoder.

    State 0 is the input of the first block, state i the output of the i-th block; there are `depth` + 1 states.
    """

    blocks: Sequence[nn.Module]
    whole: Callable[[Inputs], Tensor]
    """The modality's vectors, as from the encoder itself."""

    upper: Callable[[Tensor, Inputs, int], Tensor]
    """The vectors from the state of a number on; of the inputs pixels and spectrograms are not read."""

    kept: Callable[[Inputs], Tensor]
    """Bool [batch, tokens]: the tokens on which vectors depend, all but padding; read like `upper`."""

    read: Callable[[Tensor, Inputs], Tensor]
    """One vector for a state: that of the token from which the encoder computes its vector, or the mean."""

    @property
    def depth(self) -> int:
        """The number of blocks."""
        return len(self.blocks)

    def observe(self, inputs: Inputs, wanted: Collection[int]) -> tuple[dict[int, States], Float[Tensor, "batch dim"]]:
        """The states of the wanted numbers, and the vectors, from one pass."""
        seen: dict[int, Tensor] = {}

        def before(number: int) -> Callable[..., None]:
            def note(_module: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
                seen[number] = given[0] if given else named["hidden_states"]

            return note

        def after(_module: nn.Module, _given: tuple[Any, ...], out: Any) -> None:
            seen[self.depth] = out[0] if isinstance(out, tuple) else out

        hooks = [
            block.register_forward_pre_hook(before(number), with_kwargs=True)
            for number, block in enumerate(self.blocks)
            if number in wanted
        ]
        if self.depth in wanted:
            hooks.append(self.blocks[-1].register_forward_hook(after))
        try:
            vectors = self.whole(inputs)
        finally:
            for hook in hooks:
                hook.remove()
        return seen, vectors


class BlockEntry:
    """A pass through a library's model that enters its stack of blocks with given states.

    The lower blocks are replaced by modules that pass on their input, and the first upper one gets the states.
    `blank` takes the place of pixels or a spectrogram: one empty item's, so that the embedding costs next to nothing.
    The tower's blocks are those from number `first` on; earlier ones are always below.
    """

    def __init__(
        self,
        blocks: nn.ModuleList,
        whole: Callable[[Inputs], Tensor],
        blank: Inputs | None = None,
        *,
        first: int = 0,
    ) -> None:
        self.blocks, self.whole, self.first = blocks, whole, first
        self._blank = {} if blank is None else {name: x for name, x in blank._asdict().items() if x is not None}
        self._beside: list[tuple[Any, ...] | None] = []  # what each block returns beside its states, None if no tuple

    def __call__(self, states: Tensor, inputs: Inputs, block: int) -> Tensor:
        """The vectors from the input states of the block of that number."""
        inputs = inputs._replace(**{name: values.to(states.device) for name, values in self._blank.items()})
        self._beside = self._beside or self._returned_beside(inputs)
        block += self.first
        hook = self.blocks[block].register_forward_pre_hook(_replace_by(states), with_kwargs=True)
        lower = list(self.blocks[:block])
        try:
            for number in range(block):
                self.blocks[number] = _PassThrough(self._beside[number])
            return self.whole(inputs)
        finally:
            hook.remove()
            for number, one in enumerate(lower):
                self.blocks[number] = one

    def _returned_beside(self, inputs: Inputs) -> list[tuple[Any, ...] | None]:
        found: list[tuple[Any, ...] | None] = []

        def note(_module: nn.Module, _given: tuple[Any, ...], out: Any) -> None:
            found.append(tuple(out[1:]) if isinstance(out, tuple) else None)

        hooks = [block.register_forward_hook(note) for block in self.blocks]
        with torch.no_grad():
            self.whole(inputs.slice(0, 1))
        for hook in hooks:
            hook.remove()
        return found


class _PassThrough(nn.Module):
    """A block that returns its input states, in the form in which the block in its place returns them."""

    def __init__(self, beside: tuple[Any, ...] | None) -> None:
        super().__init__()
        self.beside = beside

    def forward(self, *given: Any, **named: Any) -> Any:
        """The input states."""
        states = given[0] if given else named["hidden_states"]
        return states if self.beside is None else (states, *self.beside)


def _replace_by(states: Tensor) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]:
    def replace(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if given:
            return (states, *given[1:]), named
        return given, {**named, "hidden_states": states}

    return replace


def stack_of(model: nn.Module, depth: int | None) -> nn.ModuleList | None:
    """The blocks of a model with `depth` of them: the outermost list of that many modules of one class."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth and len({type(block) for block in module}) == 1:
            return module
    return None


def rows_of(inputs: Inputs) -> int:
    """The number of items in a batch."""
    return next(len(values) for values in inputs if values is not None)


def every_token(inputs: Inputs, tokens: int) -> Bool[Tensor, "batch tokens"]:
    """A mask of all True."""
    device = next(values.device for values in inputs if values is not None)
    return torch.ones(rows_of(inputs), tokens, dtype=torch.bool, device=device)


def first_token(states: States, _inputs: Inputs) -> Float[Tensor, "batch width"]:
    """The state of the first token, such as a class token."""
    return states[:, 0]


def upper_parameters(
    model: nn.Module, towers: Mapping[Modality, Tower], inputs: Inputs, top: int
) -> list[nn.Parameter]:
    """The parameters of the `top` blocks of all towers and of what follows them: norms, poolers, heads.

    They are the parameters that get gradient from the vectors but not from the states below, whatever a model names
    them. Parameters that the lower part uses too (such as one bias table for all blocks) are not among them: stored
    states would no longer be theirs. `inputs` are of one item with all modalities.
    """
    parameters = list(model.parameters())
    wanted = [parameter.requires_grad for parameter in parameters]
    model.requires_grad_(True)
    below, above = set[int](), set[int]()
    with torch.enable_grad():
        for tower in towers.values():
            seen, _ = tower.observe(inputs, [tower.depth - top])
            states = seen[tower.depth - top]
            below |= _reached(states, parameters)
            above |= _reached(tower.upper(states.detach(), inputs, tower.depth - top), parameters)
    for parameter, was in zip(parameters, wanted, strict=True):
        parameter.requires_grad_(was)
    return [parameter for number, parameter in enumerate(parameters) if number in above - below]


def image_tower(blocks: nn.ModuleList, whole: Callable[[Inputs], Tensor], blank: Tensor, *, class_token: bool) -> Tower:
    """The tower of a model with the same number of tokens for all images; `blank` is one empty image."""
    read = first_token if class_token else lambda states, _inputs: states.flatten(1, -2).mean(dim=1)
    return fixed_tower(blocks, whole, Inputs(pixels=blank), read)


def fixed_tower(
    blocks: nn.ModuleList,
    whole: Callable[[Inputs], Tensor],
    blank: Inputs,
    read: Callable[[Tensor, Inputs], Tensor],
) -> Tower:
    """The tower of a model with the same number of tokens for all items; `blank` is the input of one empty item."""

    @cache
    def tokens() -> int:
        with torch.no_grad():
            seen, _ = tower.observe(blank.to(next(blocks.parameters()).device), [0])
        return seen[0].shape[1]

    def kept(inputs: Inputs) -> Tensor:
        return every_token(inputs, tokens())

    tower = Tower(list(blocks), whole, BlockEntry(blocks, whole, blank), kept, read)
    return tower


def text_tower(
    blocks: nn.ModuleList,
    whole: Callable[[Inputs], Tensor],
    read: Callable[[Tensor, Inputs], Tensor],
    *,
    tokens: int | None = None,
) -> Tower:
    """The tower of a text model; `tokens` is their number where it is fixed and padding is attended to."""

    def kept(inputs: Inputs) -> Tensor:
        return text_mask(inputs) if tokens is None else every_token(inputs, tokens)

    return Tower(list(blocks), whole, BlockEntry(blocks, whole), kept, read)


def last_token(states: States, inputs: Inputs) -> Float[Tensor, "batch width"]:
    """The state of the last token of each text, such as an end token."""
    last = (text_mask(inputs).sum(dim=1) - 1).clamp(min=0)
    return states[torch.arange(len(states), device=states.device), last]


def mean_token(states: States, inputs: Inputs) -> Float[Tensor, "batch width"]:
    """The mean of the states of each text's tokens."""
    weight = text_mask(inputs).to(states.dtype)
    return torch.einsum("btd,bt->bd", states[:, : weight.shape[1]], weight) / weight.sum(1, keepdim=True).clamp(min=1)


def _reached(values: Tensor, parameters: Sequence[nn.Parameter]) -> set[int]:
    gradients = torch.autograd.grad(values.sum(), parameters, allow_unused=True)
    return {number for number, gradient in enumerate(gradients) if gradient is not None}
