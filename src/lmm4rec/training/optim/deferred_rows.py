"""Adam's updates of a table's rows, deferred until the rows are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

BETAS, EPSILON = (0.9, 0.999), 1e-8
_MOMENTUM_STEPS = 512  # steps after which nothing is left of a row's momentum: 0.9 ** 512 is 4e-24
_BLOCK_ROWS = 2**14  # rows that `catch_up` updates at once


class _ReadRows(NamedTuple):
    """Rows that the current batch reads, and their moments, decayed up to now but not yet stored."""

    rows: Int[Tensor, " rows"]
    mean: Float[Tensor, "rows dim"]
    square: Float[Tensor, "rows dim"]


class DeferredRows:
    """A table under Adam, in whose steps only the rows that the batch reads have a gradient.

    Adam moves the other rows too, by what is left of their momentum. Here the updates of these rows are deferred: when
    a row is read, all of the updates that it missed are applied at once. A row that had its last gradient in step s,
    and then the moments m and v, is moved in step i by

        m · w_i / (sqrt(v) + e_i),   w_i = lr_i · sqrt(1 - b2^i) / (1 - b1^i) · (b1 / sqrt(b2))^(i-s),
                                     e_i = eps · sqrt(1 - b2^i) / b2^((i-s)/2).

    Here the e_i of all steps are replaced by their mean, weighted by w_i: a row then needs only two sums, of w_i and of
    w_i · e_i, which rows of the same s share. The result is Adam's up to rounding where gradients are larger than eps.
    """

    def __init__(self, weight: Float[Tensor, "table dim"], state: Mapping[str, Tensor]) -> None:
        """`state` as in `torch.optim.Adam`: "step", "exp_avg" and "exp_avg_sq"; it is updated in place."""
        self.weight, self.state = weight.detach(), state
        self.first_step = self.steps = int(state["step"])
        self.last_step = torch.full((len(weight),), self.steps, device=weight.device)  # s of each row
        # the sums of w_i and of w_i · e_i until now, for s = first_step, first_step + 1, ...
        self.sums = torch.zeros(2, 1, dtype=torch.float64, device=weight.device)
        self._current: _ReadRows | None = None

    @torch.no_grad()
    def read(self, rows: Int[Tensor, " rows"]) -> None:
        """Bring the rows that a batch reads up to date; more rows may be read before the batch's `step`."""
        if self._current is not None:
            rows = torch.cat([self._current.rows, rows])
            self._store()
        is_distinct = bool((rows[1:] > rows[:-1]).all())  # and sorted, as the rows that a process owns of a batch's
        self._current = self._updated(rows if is_distinct else torch.unique(rows))

    @property
    def rows_read(self) -> int:
        """The number of rows read since the last `step`."""
        return 0 if self._current is None else len(self._current.rows)

    @torch.no_grad()
    def step(self, gradient: Tensor, learning_rate: float) -> None:
        """Adam's next step; the gradient is a sparse tensor with entries only in rows that were read."""
        assert self._current is not None, "the rows of this gradient were not read before"
        rows, mean, square = self._current
        values = _values_at(rows, gradient.coalesce())
        scale, epsilon = self._count_step(learning_rate)
        mean.lerp_(values, 1 - BETAS[0])
        square.mul_(BETAS[1]).addcmul_(values, values, value=1 - BETAS[1])
        moved = self.weight.index_select(0, rows).addcdiv_(mean, square.sqrt().add_(epsilon), value=-scale)
        self.weight.index_copy_(0, rows, moved)
        self._store()

    @torch.no_grad()
    def catch_up(self) -> None:
        """Bring all rows up to date."""
        self._store()
        deferred = torch.nonzero(self.last_step < self.steps)[:, 0]
        for rows in torch.split(deferred, _BLOCK_ROWS):
            self._current = self._updated(rows)
            self._store()

    def _updated(self, rows: Int[Tensor, " rows"]) -> _ReadRows:
        """Apply the updates that the rows have missed; their moments up to now."""
        last_step = self.last_step[rows]
        mean, square = (self.state[name].index_select(0, rows) for name in ("exp_avg", "exp_avg_sq"))
        sums = self.sums[:, last_step - self.first_step, None]
        scale, epsilon = sums[0].float(), (sums[1] / sums[0]).nan_to_num(EPSILON).float()  # 0 / 0: no update missed
        moved = self.weight.index_select(0, rows).addcdiv_(mean * scale, square.sqrt().add_(epsilon), value=-1)
        self.weight.index_copy_(0, rows, moved)
        missed = (self.steps - last_step).double()[:, None]
        return _ReadRows(rows, mean.mul_((BETAS[0] ** missed).float()), square.mul_((BETAS[1] ** missed).float()))

    def _count_step(self, learning_rate: float) -> tuple[float, float]:
        """Add a step to the sums of all rows; its learning rate and epsilon, bias corrections included."""
        self.steps += 1
        self.state["step"].fill_(self.steps)
        root = (1 - BETAS[1] ** self.steps) ** 0.5
        scale = learning_rate * root / (1 - BETAS[0] ** self.steps)
        oldest = min(self.sums.shape[1], _MOMENTUM_STEPS)
        ages = torch.arange(oldest, 0, -1, dtype=torch.float64, device=self.sums.device)
        weights = scale * (BETAS[0] / BETAS[1] ** 0.5) ** ages
        self.sums[:, -oldest:] += torch.stack([weights, weights * EPSILON * root / BETAS[1] ** (ages / 2)])
        self.sums = torch.cat([self.sums, self.sums.new_zeros(2, 1)], dim=1)
        return scale, EPSILON * root

    def _store(self) -> None:
        """Store the moments of the rows that were read, as of the current step."""
        if self._current is None:
            return
        rows, mean, square = self._current
        self.state["exp_avg"].index_copy_(0, rows, mean)
        self.state["exp_avg_sq"].index_copy_(0, rows, square)
        self.last_step[rows] = self.steps
        self._current = None


def _values_at(rows: Int[Tensor, " rows"], gradient: Tensor) -> Float[Tensor, "rows dim"]:
    """The values of a coalesced gradient at the given rows, which are sorted and include all of its own."""
    own, values = gradient.indices()[0], gradient.values()
    if len(own) == len(rows):
        return values
    place = torch.searchsorted(rows, own)
    return values.new_zeros(len(rows), values.shape[1]).index_copy_(0, place, values)
