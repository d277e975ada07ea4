"""Blocks of a multiway transformer: one attention over all tokens, other weights by the kind of token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lmm4rec.core.errors import ConfigError

Segments: TypeAlias = Sequence[tuple[str, int]]
"""The tokens of a sequence in order, as pairs of an expert's name and how many tokens are its own."""

ANY = "any"
"""The name of the one expert that serves every token."""

States: TypeAlias = Float[Tensor, "batch tokens _dim"]


class Experts(nn.ModuleDict):
    """One module for each kind of token (VLMo, arXiv 2111.02358, sec. 3.1); an expert named "any" serves all tokens."""

    def __init__(self, kinds: Iterable[str], make: Callable[[], nn.Module]) -> None:
        super().__init__({kind: make() for kind in kinds})

    def forward(self, x: States, segments: Segments) -> States:
        """Each token through its own expert."""
        if ANY in self:
            return cast(Tensor, self[ANY](x))
        if len(segments) == 1:
            return cast(Tensor, self[segments[0][0]](x))
        parts = torch.split(x, [tokens for _, tokens in segments], dim=1)
        return torch.cat([self[kind](part) for (kind, _), part in zip(segments, parts, strict=True)], dim=1)


class FeedForward(nn.Module):
    """Linear, GELU, linear; with the inner norm of Magneto (arXiv 2210.06423, fig. 2) where `inner_eps` is given."""

    def __init__(self, dim: int, width: int, *, inner_eps: float | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, width)
        self.norm = nn.Identity() if inner_eps is None else nn.LayerNorm(width, eps=inner_eps)
        self.fc2 = nn.Linear(width, dim)

    def forward(self, x: States) -> States:
        """The update of the states, of the same shape."""
        return cast(Tensor, self.fc2(self.norm(F.gelu(self.fc1(x)))))


class SeparateProjections(nn.Module):
    """Query, key and value by separate linear maps for each kind of token."""

    def __init__(self, dim: int, kinds: Sequence[str]) -> None:
        super().__init__()
        self.query, self.key, self.value = (Experts(kinds, lambda: nn.Linear(dim, dim)) for _ in range(3))

    def forward(self, x: States, segments: Segments) -> tuple[States, States, States]:
        """Query, key, value."""
        return self.query(x, segments), self.key(x, segments), self.value(x, segments)


class JointProjection(nn.Linear):
    """Query, key and value by one linear map for all tokens, the key without a bias (BEiT, arXiv 2106.08254).

    It is one linear layer with one output, so that adapters of linear layers apply to it.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 3 * dim, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.empty(dim)), nn.Parameter(torch.empty(dim))

    def forward(self, x: States, segments: Segments) -> States:  # type: ignore[override]
        """Query, key and value side by side."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        return F.linear(x, self.weight, bias)


class Attention(nn.Module):
    """Softmax attention of every token to every other, with an optional bias and an optional norm before the output."""

    def __init__(self, heads: int, project: nn.Module, out: Experts, inner_norm: Experts | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.project, self.out, self.inner_norm = project, out, inner_norm

    def forward(
        self,
        x: States,
        segments: Segments,
        mask: Bool[Tensor, "batch tokens"] | None,
        bias: Float[Tensor, "heads tokens tokens"] | None,
    ) -> States:
        """The update of the states; no token attends to where the mask is False."""
        projected = self.project(x, segments)
        parts = projected.chunk(3, dim=2) if isinstance(projected, Tensor) else projected
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        visible = _attention_mask(mask, None if bias is None else bias.to(query.dtype))
        states = F.scaled_dot_product_attention(query, key, value, attn_mask=visible).transpose(1, 2).flatten(2)
        if self.inner_norm is not None:
            states = self.inner_norm(states, segments)
        return cast(Tensor, self.out(states, segments))


def _attention_mask(mask: Tensor | None, bias: Tensor | None) -> Tensor | None:
    """The mask for `scaled_dot_product_attention`: True where tokens are visible, or a bias of the logits."""
    if bias is None:
        return None if mask is None else mask[:, None, None, :]
    if mask is None:
        return bias[None]
    return torch.where(mask[:, None, None, :], bias[None], -torch.inf)


class Block(nn.Module):
    """Pre-norm attention and feed-forward experts, each with layer scale where `layer_scale` is its width."""

    gamma_1: nn.Parameter | None
    gamma_2: nn.Parameter | None

    def __init__(
        self,
        attention_norm: Experts,
        attention: Attention,
        ffn_norm: Experts,
        ffn: Experts,
        *,
        layer_scale: int | None = None,
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention, self.ffn_norm, self.ffn = attention_norm, attention, ffn_norm, ffn
        for name in ("gamma_1", "gamma_2"):
            self.register_parameter(name, None if layer_scale is None else nn.Parameter(torch.empty(layer_scale)))

    def forward(
        self,
        x: States,
        segments: Segments,
        mask: Bool[Tensor, "batch tokens"] | None,
        bias: Float[Tensor, "heads tokens tokens"] | None,
        keep: Float[Tensor, "2 batch"] | None,
    ) -> States:
        """The states after the block; `keep` holds the factors of each row's two updates."""
        update = self.attention(self.attention_norm(x, segments), segments, mask, bias)
        x = x + _scaled(update, self.gamma_1, None if keep is None else keep[0])
        update = self.ffn(self.ffn_norm(x, segments), segments)
        return x + _scaled(update, self.gamma_2, None if keep is None else keep[1])


def _scaled(update: Tensor, gamma: Tensor | None, keep: Tensor | None) -> Tensor:
    update = update if gamma is None else gamma * update
    return update if keep is None else keep[:, None, None] * update


class Multiway(nn.ModuleList):
    """A stack of blocks.

    `drop_path` is the last block's rate of stochastic depth (Huang et al. 2016, arXiv 1603.09382), growing linearly
    from 0 at the first. It draws from `generator`, from the global one where that is None, and only in training.
    `checkpointing` keeps only the states between blocks for the backward pass and recomputes the rest.
    """

    def __init__(self, blocks: Iterable[Block], *, drop_path: float = 0.0, checkpointing: bool = False) -> None:
        super().__init__(blocks)
        self.drop_path, self.checkpointing = drop_path, checkpointing
        self.generator: torch.Generator | None = None

    def forward(
        self,
        x: States,
        plan: Sequence[Segments],
        mask: Bool[Tensor, "batch tokens"] | None = None,
        biases: Sequence[Tensor] | None = None,
        *,
        first: int = 0,
    ) -> States:
        """The states after all blocks from the `first` on; `plan` and `biases` have one entry a block."""
        keeps = self._keep(len(x))
        for index, (block, segments) in enumerate(zip(self, plan, strict=True)):
            if index < first:
                continue
            bias = None if biases is None else biases[index]
            keep = None if keeps is None else keeps[index].to(x)
            if self.checkpointing and torch.is_grad_enabled():
                # random numbers are drawn outside, so a recomputed block gives the same
                x = cast(
                    Tensor,
                    checkpoint(block, x, segments, mask, bias, keep, use_reentrant=False, preserve_rng_state=False),
                )
            else:
                x = block(x, segments, mask, bias, keep)
        return x

    def _keep(self, batch: int) -> Float[Tensor, "blocks 2 batch"] | None:
        """0 for a dropped update, else the inverse of its probability to stay."""
        if not self.training or self.drop_path == 0:
            return None
        stay = 1 - torch.linspace(0, self.drop_path, len(self))[:, None, None]
        return (torch.rand(len(self), 2, batch, generator=self.generator) < stay).float() / stay


def drop_path_of(module: nn.Module) -> float | None:
    """The rate of stochastic depth of the stacks in a module; None where it has none."""
    return next((stack.drop_path for stack in _stacks(module)), None)


@contextmanager
def drop_path_set(module: nn.Module, rate: float) -> Iterator[None]:
    """The rate of stochastic depth for the stacks in a module; afterwards they have their own."""
    before = [(stack, stack.drop_path) for stack in _stacks(module)]
    for stack, _ in before:
        stack.drop_path = rate
    try:
        yield
    finally:
        for stack, own in before:
            stack.drop_path = own


def _stacks(module: nn.Module) -> Iterator[Multiway]:
    return (part for part in module.modules() if isinstance(part, Multiway))


class PatchEmbedding(nn.Module):
    """An image as a class token and one token for each patch (ViT, arXiv 2010.11929, eq. 1, without positions)."""

    def __init__(self, image_size: int, patch: int, dim: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)

    def forward(self, pixels: Float[Tensor, "batch channels height width"]) -> States:
        """Raises ConfigError where the images have another size."""
        if pixels.shape[1:] != (3, self.image_size, self.image_size):
            raise ConfigError(
                f"the encoder takes pixels of shape [batch, 3, {self.image_size}, {self.image_size}], got "
                f"{list(pixels.shape)}; load it with another image_size to take others"
            )
        patches = self.proj(pixels).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(len(pixels), -1, -1).to(patches.dtype), patches], dim=1)


def embed(table: nn.Embedding, ids: Int[Tensor, "batch tokens"], *, at_most: int) -> States:
    """The embeddings of token ids.

    Raises:
        ConfigError: there are more tokens than positions, or ids that the table lacks (checked on the CPU alone:
            another device would have to synchronize).
    """
    if ids.shape[1] > at_most:
        raise ConfigError(f"the texts have {ids.shape[1]} tokens, the encoder has positions for {at_most}")
    if ids.device.type == "cpu" and ids.numel() and int(ids.max()) >= table.num_embeddings:
        raise ConfigError(
            f"token id {int(ids.max())} is beyond the checkpoint's vocabulary of {table.num_embeddings}: the texts "
            "were tokenized for another checkpoint"
        )
    return table(ids)
