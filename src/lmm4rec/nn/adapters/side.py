"""A side network: small layers beside a frozen encoder that read the stored states of its blocks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.types import Modality, PositiveInt

_SHARPNESS = 10.0  # of the gates: the paper's temperature is 0.1


class SideNetwork(nn.Module):
    """Intra- and inter-modal side adapters, as in IISAN (Fu et al. 2024, arXiv 2404.02059, sec. 3.2).

    s_m[i] is the i-th used state of modality m, one vector per item (that of the class or end token). Every `stride`-th
    state is used, counted from the last, as with the paper's LayerDrop; of a deeper tower as many, evenly spread. Let
    z_m[i] = W_m[i] norm(s_m[i]). Then, with a separate gate g = sigmoid(10 mu) (mu starts at 0) at every i,

        h_m[i] = A(g z_m[i] + (1 - g) h_m[i-1]),  h_m[-1] = 0           within a modality
        h[i]   = A(sum_m g_m z_m[i] + h[i-1]),    h[-1] = 0             between them, the g_m a softmax of 10 mu_m
        A(x)   = x + U gelu(D x + b)                                     a separate adapter at every i

    and the vector is v_m + O_m [h_m[last], h[last]], where v_m is the encoder's own. O_m starts as zeros, so at first
    the vectors are those of the frozen encoder. Between modalities an item takes part with those that it has. With
    one modality there is no part between them.

    Differs from the paper: everything is `dim` wide, by one projection W a state (as in ladder side-tuning,
    arXiv 2206.06522), where there the adapters are as wide as the encoder; states are normalized first; each modality
    has its own vector for any recommender, where there one vector feeds a sequential recommender.
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
        self.modalities = tuple(states)
        steps = min((count - 1) // stride + 1 for count, _ in states.values())
        self.used = {modality: _used_states(count, steps, stride) for modality, (count, _) in states.items()}
        self.project = nn.ParameterDict({m: _normal(generator, steps, width, dim) for m, (_, width) in states.items()})
        self.gates = nn.Parameter(torch.zeros(steps, len(states)))
        self.shares = nn.Parameter(torch.zeros(steps, len(states))) if len(states) > 1 else None
        ladders = len(states) + (self.shares is not None)
        self.down, self.up = (_normal(generator, steps, ladders, dim, dim) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(steps, ladders, 1, dim))
        joined = dim if self.shares is None else 2 * dim
        self.out = nn.ParameterDict({m: nn.Parameter(torch.zeros(joined, dims[m])) for m in states})

    def forward(
        self,
        states: Mapping[Modality, Float[Tensor, "items _states _width"]],
        vectors: Mapping[Modality, Float[Tensor, "items _dim"]],
        present: Mapping[Modality, Bool[Tensor, " items"]],
    ) -> dict[Modality, Float[Tensor, "items _dim"]]:
        """The adapted vectors; zeros where an item lacks the modality."""
        narrow = torch.stack([self._narrow(modality, states[modality]) for modality in self.modalities], dim=1)
        gates = torch.sigmoid(_SHARPNESS * self.gates)
        entering, carry = gates[..., None, None] * narrow, 1 - gates
        if self.shares is not None:
            has = torch.stack([present[modality] for modality in self.modalities])
            entering = torch.cat([entering, self._between(self.shares, narrow, has)], dim=1)
            carry = torch.cat([carry, torch.ones_like(carry[:, :1])], dim=1)
        hidden = self._run_ladders(entering, carry[..., None, None])
        adapted = {}
        for ladder, modality in enumerate(self.modalities):
            own = hidden[ladder] if self.shares is None else torch.cat([hidden[ladder], hidden[-1]], dim=1)
            adapted[modality] = torch.where(
                present[modality][:, None], vectors[modality] + own @ self.out[modality], 0.0
            )
        return adapted

    def _narrow(self, modality: Modality, states: Tensor) -> Float[Tensor, "steps items dim"]:
        used = states[:, self.used[modality]].float().transpose(0, 1)
        return torch.bmm(F.layer_norm(used, used.shape[-1:]), self.project[modality])

    @staticmethod
    def _between(
        shares: Float[Tensor, "steps modalities"],
        narrow: Float[Tensor, "steps modalities items dim"],
        has: Bool[Tensor, "modalities items"],
    ) -> Float[Tensor, "steps 1 items dim"]:
        """The sum over the modalities that an item has, weighted by their shares; zeros for an item without any."""
        logits = (_SHARPNESS * shares)[..., None].masked_fill(~has & has.any(dim=0), -torch.inf)
        weights = torch.where(has, torch.softmax(logits, dim=1), 0.0)
        return (weights[..., None] * narrow).sum(dim=1, keepdim=True)

    def _run_ladders(
        self, entering: Float[Tensor, "steps ladders items dim"], carry: Float[Tensor, "steps ladders 1 1"]
    ) -> Float[Tensor, "ladders items dim"]:
        """All ladders at once, step by step."""
        hidden = torch.zeros_like(entering[0])
        for step, new in enumerate(entering):
            x = new + carry[step] * hidden
            hidden = x + torch.bmm(F.gelu(torch.baddbmm(self.bias[step], x, self.down[step])), self.up[step])
        return hidden


def _used_states(count: int, steps: int, stride: int) -> list[int]:
    """The last of the states and every `stride`-th before it; where that would be more than `steps`, evenly spread."""
    if (count - 1) // stride + 1 == steps:
        return list(range(count - 1, -1, -stride))[::-1]
    return [round(place) for place in torch.linspace(count - 1, 0, steps).tolist()][::-1]


def _normal(generator: torch.Generator, *shape: int) -> nn.Parameter:
    """Normal weights with a standard deviation that keeps the scale of their input."""
    return nn.Parameter(torch.empty(shape).normal_(std=shape[-2] ** -0.5, generator=generator))
