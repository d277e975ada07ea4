"""Adam, for whole parameters and for tables of which a batch reads few rows; and the bound of gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim.adam import adam

from lmm4rec.core.errors import TrainingError
from lmm4rec.distributed import process_group, sharding
from lmm4rec.nn.tables import ShardedTable, Table
from lmm4rec.training.optim import compiled_rows
from lmm4rec.training.optim.deferred_rows import BETAS, EPSILON, DeferredRows, coalesced

# A table's rows are deferred where it has more than so many times the rows that a batch reads: the first number, or the
# second where compiled code updates the rows of a table that is larger than the processor's cache.
_WORTH, _WORTH_COMPILED = 12, 6


class Adam:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980); with `decoupled` weight decay AdamW (arXiv 1711.05101).

    Whole parameters are updated by PyTorch's fused kernel. In a large `Table` of which a batch reads few rows, only
    these are updated and the other rows are deferred until they are read (`DeferredRows`), so that a step costs what
    its batch reads. For that call `zero_grad` before the losses are computed, and `catch_up` when training pauses.
    The state and its names are those of `torch.optim.Adam`.

    It is not a `torch.optim.Optimizer`, whose first instance imports PyTorch's whole compiler: a second or more.
    """

    def __init__(self, groups: Sequence[Mapping[str, Any]], *, decoupled: bool = False) -> None:
        """Each of the `groups` has "params", "lr" and "weight_decay"; the latter two may change between steps.

        A group may have "betas" of its own.
        """
        self.param_groups = [dict(group) for group in groups]
        self.decoupled = decoupled
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}
        self._deferred: dict[Table, DeferredRows] = {}
        self._read_whole: set[Table] = set()  # in the current step

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters of all groups, in order."""
        return [weight for group in self.param_groups for weight in group["params"]]

    def zero_grad(self) -> None:
        """Drop all gradients, and let the tables report what the next losses read."""
        self._read_whole.clear()
        for deferred in self._deferred.values():
            deferred.rows_read = 0
        for group in self.param_groups:
            for weight in group["params"]:
                weight.grad = None
                if isinstance(weight, Table):
                    self._observe(weight, deferrable=not group["weight_decay"] and "betas" not in group)

    def defers_rows(self, table: Table, rows: int) -> bool:
        """Whether to update only the rows of the table that the batch reads, when it reads `rows` more of them.

        If so, call `before_rows` next; if not, all rows have been brought up to date.
        """
        if table in self._read_whole:
            return False
        read = rows + (self._deferred[table].rows_read if table in self._deferred else 0)
        if len(table) <= (_WORTH_COMPILED if compiled_rows.can_update(table) else _WORTH) * read:
            self.before_all(table)
            return False
        if table not in self._deferred:
            self._deferred[table] = DeferredRows(table, self._state_of(table))
        return True

    def before_rows(self, table: Table, rows: Int[Tensor, " rows"]) -> None:
        """Apply the updates that these rows, ascending and distinct, have missed; `defers_rows` was true."""
        self._deferred[table].read(rows)

    def before_all(self, table: Table) -> None:
        """Bring all rows of the table up to date; in the next step all of them are updated."""
        self._catch_up(table)
        self._read_whole.add(table)

    def catch_up(self) -> None:
        """Bring all deferred rows up to date; from here to the next `zero_grad` tables are plain parameters."""
        for weight in self.parameters:
            if isinstance(weight, Table) and weight.optimizer is self:
                self._catch_up(weight)
                weight.optimizer = None

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients; a parameter without a gradient is left as it is.

        Raises:
            TrainingError: the losses read a table with deferred rows other than by its `rows` and `all`.
        """
        for group in self.param_groups:
            whole = []
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if weight not in self._deferred:
                    weight.grad = weight.grad.to_dense() if weight.grad.is_sparse else weight.grad
                    whole.append(weight)
                elif weight.grad.is_sparse and self._deferred[weight].has_read(weight.grad):
                    self._deferred[weight].step(weight.grad, group["lr"])
                else:
                    raise TrainingError(
                        f"a Table of shape {tuple(weight.shape)} was read past its methods rows() and all(), where "
                        "deferred rows are not up to date. Use these methods, or make it a plain nn.Parameter"
                    )
            if whole:
                self._step_whole(whole, group)

    def state_dict(self) -> dict[str, Any]:
        """The state as in `torch.optim.Adam.state_dict`, parameters by number; all rows catch up before."""
        self.catch_up()
        numbers = {weight: number for number, weight in enumerate(self.parameters)}
        groups = [{**group, "params": [numbers[weight] for weight in group["params"]]} for group in self.param_groups]
        return {"state": {numbers[weight]: dict(state) for weight, state in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state.

        Raises:
            ValueError: the state belongs to other parameters.
        """
        sizes, own = (
            [len(group["params"]) for group in groups] for groups in (state["param_groups"], self.param_groups)
        )
        if sizes != own:
            raise ValueError(f"its optimizer has groups of {sizes} parameters instead of {own}")
        parameters, loaded = self.parameters, dict[nn.Parameter, dict[str, Tensor]]()
        for number, parts in state["state"].items():
            weight = parameters[number]
            shape = tuple(parts["exp_avg"].shape)
            if shape != weight.shape:
                raise ValueError(f"its optimizer has a parameter of shape {shape} instead of {tuple(weight.shape)}")
            moments = {name: parts[name].to(weight, copy=True) for name in ("exp_avg", "exp_avg_sq")}
            loaded[weight] = {"step": parts["step"].to(weight.device, torch.float32, copy=True), **moments}
        for group, saved in zip(self.param_groups, state["param_groups"], strict=True):
            group |= {name: saved[name] for name in ("lr", "weight_decay")}
        self.state = loaded
        self._deferred.clear()

    def _state_of(self, weight: nn.Parameter) -> dict[str, Tensor]:
        if weight not in self.state:
            moments = {name: torch.zeros_like(weight, requires_grad=False) for name in ("exp_avg", "exp_avg_sq")}
            self.state[weight] = {"step": torch.zeros((), device=weight.device), **moments}
        return self.state[weight]

    def _observe(self, table: Table, *, deferrable: bool) -> None:
        """Become the table's `optimizer` where deferring rows pays.

        It does not on a GPU, nor where several processes average whole gradients.
        """
        is_alone = isinstance(table, ShardedTable) or process_group.world_size() == 1
        deferrable = deferrable and table.device.type == "cpu" and is_alone
        wanted = self if deferrable else None
        if table.optimizer is not wanted:
            table.all()  # rows that another optimizer deferred
            table.optimizer = wanted

    def _catch_up(self, table: Table) -> None:
        if table in self._deferred:
            self._deferred.pop(table).catch_up()

    def _step_whole(self, weights: list[nn.Parameter], group: Mapping[str, Any]) -> None:
        states = [self._state_of(weight) for weight in weights]
        beta1, beta2 = group.get("betas", BETAS)
        adam(
            [*weights],
            [weight.grad for weight in weights if weight.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=EPSILON,
            maximize=False,
            decoupled_weight_decay=self.decoupled,
        )


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Float[Tensor, ""]:
    """The norm of all gradients as one vector; where it exceeds `max_norm` they are scaled down to that (0: never).

    Of a sharded table each process has the gradient of its rows; the norm is that of all of them.
    """
    whole, sharded = list[Tensor](), list[Tensor]()
    for weight in parameters:
        if weight.grad is not None:
            (sharded if isinstance(weight, ShardedTable) else whole).append(_values(weight))
    norm = torch.nn.utils.get_total_norm(whole)
    if sharding.is_sharded():
        norm = (norm.square() + process_group.total(torch.nn.utils.get_total_norm(sharded).square())).sqrt()
    if max_norm:
        scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in (*whole, *sharded):
            gradient.mul_(scale)
    return norm


def _values(weight: nn.Parameter) -> Tensor:
    """The numbers of a gradient; a sparse one is coalesced, so that each row occurs once."""
    assert weight.grad is not None
    if not weight.grad.is_sparse:
        return weight.grad
    weight.grad = coalesced(weight.grad)
    return weight.grad.values()
