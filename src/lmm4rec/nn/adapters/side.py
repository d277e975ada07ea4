"""A side network: small layers beside an encoder, from what its blocks gave once, and no pass through it any more."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.types import Modality, PositiveInt

__all__ = ["SideNetwork"]

_SHARPNESS = 10.0  # of the gates: the paper's temperature is 0.1


class SideNetwork(nn.Module):
    """Intra- and inter-modal side adapters, as in IISAN (Fu et al. 2024, arXiv 2404.02059, sec. 3.2).

    s_m[i] is the i-th kept state of modality m, one vector an item (that of the class or end token); kept is every
    `stride`-th, counted from the last, as with the paper's LayerDrop. Let z_m[i] = W_m[i] norm(s_m[i]). Then, with a
    gate g = sigmoid(10 mu) of its own (mu starts at 0) at every i,

        h_m[i] = A(g z_m[i] + (1 - g) h_m[i-1]),  h_m[-1] = 0           within a modality
        h[i]   = A(sum_m g_m z_m[i] + h[i-1]),    h[-1] = 0             between them, the g_m a softmax of 10 mu_m
        A(x)   = x + U gelu(D x)                                         an adapter of its own at every i

    and the vector is v_m + O_m [h_m[last], h[last]], where v_m is the encoder's own. O_m starts as zeros, so at first
    the vectors are those of the frozen encoder. Between them an item counts with the modalities that it has. Where
    there is one modality, there is nothing between.

    Differs from the paper: everything is `dim` wide, by one projection W a state (in the manner of ladder side-tuning,
    arXiv 2206.06522), where there the adapters are as wide as the encoder; states are normalized first; each modality
    has a vector of its own for whatever recommender comes after, where there one vector feeds a sequential one; towers
    of unlike depth are joined at their last blocks.
    """

    def __init__(
        self,
        states: Mapping[Modality, tuple[int, int]],
        dims: Mapping[Modality, int],
        generator: torch.Generator,
        *,
        dim: PositiveInt = 64,
        stride: PositiveInt = 2,
    ) -> None:
        """`states` are the number and the width of each modality's states, `dims` the widths of its vectors."""
        super().__init__()
        self.modalities, self.kept = tuple(states), {m: _kept(count, stride) for m, (count, _) in states.items()}
        self.project = nn.ParameterDict(
            {m: _normal(generator, len(self.kept[m]), width, dim, fan_in=width) for m, (_, width) in states.items()}
        )
        self.within = nn.ModuleDict({m: _Ladder(len(self.kept[m]), dim, generator) for m in states})
        self.gates = nn.ParameterDict({m: nn.Parameter(torch.zeros(len(self.kept[m]))) for m in states})
        shared = min(len(numbers) for numbers in self.kept.values())
        self.between = _Ladder(shared, dim, generator) if len(states) > 1 else None
        self.between_gates = nn.Parameter(torch.zeros(shared, len(states))) if len(states) > 1 else None
        parts = 1 if self.between is None else 2
        self.out = nn.ParameterDict({m: nn.Parameter(torch.zeros(parts * dim, dims[m])) for m in states})

    def forward(
        self,
        states: Mapping[Modality, Float[Tensor, "items _states _width"]],
        vectors: Mapping[Modality, Float[Tensor, "items _dim"]],
        present: Mapping[Modality, Bool[Tensor, " items"]],
    ) -> dict[Modality, Float[Tensor, "items _dim"]]:
        """The adapted vectors; zeros where an item lacks the modality."""
        narrow = {m: self._narrow(m, states[m]) for m in self.modalities}
        between = self._between(narrow, present)
        made = {}
        for m in self.modalities:
            gates = torch.sigmoid(_SHARPNESS * self.gates[m])
            hidden = self.within[m]([gate * z for gate, z in zip(gates, narrow[m], strict=True)], 1 - gates)
            joined = hidden if between is None else torch.cat([hidden, between], dim=1)
            made[m] = torch.where(present[m][:, None], vectors[m] + joined @ self.out[m], 0.0)
        return made

    def _narrow(self, modality: Modality, states: Tensor) -> Float[Tensor, "kept items dim"]:
        kept = states[:, self.kept[modality]].transpose(0, 1)
        return torch.bmm(F.layer_norm(kept, kept.shape[-1:]), self.project[modality])

    def _between(self, narrow: Mapping[Modality, Tensor], present: Mapping[Modality, Tensor]) -> Tensor | None:
        if self.between is None or self.between_gates is None:
            return None
        has = torch.stack([present[m] for m in self.modalities], dim=1)
        logits = _SHARPNESS * self.between_gates[:, None, :].masked_fill(~has, -torch.inf)
        # an item without any content has nothing to weigh
        weights = torch.where(has, torch.softmax(logits.masked_fill(~has.any(1, keepdim=True), 0.0), dim=2), 0.0)
        count = len(self.between_gates)
        stacked = torch.stack([narrow[m][-count:] for m in self.modalities], dim=2)
        joined = torch.einsum("kim,kimd->kid", weights, stacked)
        return self.between(list(joined), torch.ones(count, device=joined.device))


class _Ladder(nn.Module):
    """h[i] = A_i(x[i] + carry[i] h[i-1]); the last of them."""

    def __init__(self, steps: int, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.down = _normal(generator, steps, dim, dim, fan_in=dim)
        self.up = _normal(generator, steps, dim, dim, fan_in=dim)
        self.bias = nn.Parameter(torch.zeros(steps, dim))

    def forward(self, steps: list[Tensor], carry: Float[Tensor, " steps"]) -> Float[Tensor, "items dim"]:
        hidden = torch.zeros_like(steps[0])
        for number, step in enumerate(steps):
            x = step + carry[number] * hidden
            hidden = x + F.gelu(torch.addmm(self.bias[number], x, self.down[number])) @ self.up[number]
        return hidden


def _kept(count: int, stride: int) -> list[int]:
    """Which of the states are kept: the last, and every `stride`-th before it."""
    return sorted(range(count - 1, -1, -stride))


def _normal(generator: torch.Generator, *shape: int, fan_in: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape).normal_(std=fan_in**-0.5, generator=generator))
