"""Adam, for whole parameters and for tables of which a batch reads few rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.optim.adam import adam

from lmm4rec.distributed import process_group
from lmm4rec.training.optim.deferred_rows import BETAS, EPSILON, RestingRows

_WORTH = 12  # times as many rows as a batch reads, and to let the others rest is faster than to step them all


class Adam:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980); with `decoupled` weight decay AdamW (arXiv 1711.05101).

    What `torch.optim.Adam` does, in fewer ways: its fused kernel steps whole parameters. Rows of large tables that a
    batch does not read rest, and are moved later by all that they have missed (`RestingRows`), so that a step costs
    what its batch reads. State and its names are those of `torch.optim.Adam`.

    It is not a `torch.optim.Optimizer`, whose first instance imports the whole compiler of PyTorch: a second or more.
    """

    def __init__(self, groups: Sequence[Mapping[str, Any]], *, decoupled: bool = False) -> None:
        """Each of the `groups` has "params", "lr" and "weight_decay"; the latter two may change between steps."""
        self.param_groups = [dict(group) for group in groups]
        self.decoupled = decoupled
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}
        self._resting: dict[nn.Parameter, RestingRows] = {}

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those of all groups, in order."""
        return [weight for group in self.param_groups for weight in group["params"]]

    def bring(self, read: Mapping[nn.Parameter, Int[Tensor, " rows"]]) -> frozenset[int]:
        """Bring the rows that the next batch reads up to date; the ids of the tables whose gradient may be sparse.

        In such a table only these rows may have a gradient in the next step; the others rest.
        """
        for group in self.param_groups:
            for weight in group["params"]:
                rows = read.get(weight)
                if rows is None or group["weight_decay"] or not _pays(weight, rows):
                    self._settle(weight)
                    continue
                if weight not in self._resting:
                    self._resting[weight] = RestingRows(weight, self._of(weight))
                self._resting[weight].bring(rows)
        return frozenset(map(id, self._resting))

    def settle(self) -> None:
        """Bring all rows up to date: whoever reads whole tables, or the state, does this first."""
        for weight in list(self._resting):
            self._settle(weight)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for weight in self.parameters:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients; a parameter without one stays as it is."""
        for group in self.param_groups:
            whole = []
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if weight.grad.is_sparse:
                    self._resting[weight].step(weight.grad, group["lr"])
                else:
                    self._settle(weight)
                    whole.append(weight)
            if whole:
                self._step_whole(whole, group)

    def state_dict(self) -> dict[str, Any]:
        """As `torch.optim.Adam.state_dict`: parameters by their numbers."""
        numbers = {weight: number for number, weight in enumerate(self.parameters)}
        groups = [{**group, "params": [numbers[weight] for weight in group["params"]]} for group in self.param_groups]
        return {"state": {numbers[weight]: dict(state) for weight, state in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: it is of other parameters.
        """
        sizes, own = (
            [len(group["params"]) for group in groups] for groups in (state["param_groups"], self.param_groups)
        )
        if sizes != own:
            raise ValueError(f"its optimizer has groups of {sizes} parameters instead of {own}")
        parameters, found = self.parameters, dict[nn.Parameter, dict[str, Tensor]]()
        for number, parts in state["state"].items():
            weight = parameters[number]
            shape = tuple(parts["exp_avg"].shape)
            if shape != weight.shape:
                raise ValueError(f"its optimizer has a parameter of shape {shape} instead of {tuple(weight.shape)}")
            moments = {name: parts[name].to(weight, copy=True) for name in ("exp_avg", "exp_avg_sq")}
            found[weight] = {"step": parts["step"].to(weight.device, torch.float32, copy=True), **moments}
        for group, saved in zip(self.param_groups, state["param_groups"], strict=True):
            group |= {name: saved[name] for name in ("lr", "weight_decay")}
        self.state, self._resting = found, {}

    def _of(self, weight: nn.Parameter) -> dict[str, Tensor]:
        if weight not in self.state:
            moments = {name: torch.zeros_like(weight, requires_grad=False) for name in ("exp_avg", "exp_avg_sq")}
            self.state[weight] = {"step": torch.zeros((), device=weight.device), **moments}
        return self.state[weight]

    def _settle(self, weight: nn.Parameter) -> None:
        if weight in self._resting:
            self._resting.pop(weight).settle()

    def _step_whole(self, weights: list[nn.Parameter], group: Mapping[str, Any]) -> None:
        states = [self._of(weight) for weight in weights]
        adam(
            [*weights],
            [weight.grad for weight in weights if weight.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=EPSILON,
            maximize=False,
            decoupled_weight_decay=self.decoupled,
        )


def _pays(weight: nn.Parameter, rows: Int[Tensor, " rows"]) -> bool:
    """Whether to step the rows alone is faster: not on a GPU, nor where several processes add up whole gradients."""
    large = len(weight) > _WORTH * len(rows)
    return large and weight.device.type == "cpu" and process_group.world_size() == 1
