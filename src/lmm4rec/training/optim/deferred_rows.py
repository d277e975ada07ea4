"""Adam's updates of a table's rows, deferred until the rows are read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.training.optim import compiled_rows

BETAS, EPSILON = (0.9, 0.999), 1e-8
_MOMENTUM_STEPS = 512  # steps after which nothing is left of a row's momentum: 0.9 ** 512 is 4e-24
_BLOCK_ROWS = 2**14  # rows that `catch_up` updates at once


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
        self.rows_read = 0  # by the current batch; rows that it reads twice count twice
        self._tables = self.weight, state["exp_avg"], state["exp_avg_sq"]
        self._is_compiled = all(map(compiled_rows.can_update, self._tables))

    @torch.no_grad()
    def read(self, rows: Int[Tensor, " rows"]) -> None:
        """Bring the ascending, distinct rows that a batch reads up to date; more may be read before the batch's `step`.

        Raises:
            IndexError: the table has no such row. Compiled code does not look.
        """
        if len(rows) and not 0 <= int(rows[0]) <= int(rows[-1]) < len(self.weight):
            first, last = int(rows[0]), int(rows[-1])
            raise IndexError(f"a batch reads rows {first} to {last}, from 0, of a table that has {len(self.weight)}")
        self.rows_read += len(rows)
        if self._is_compiled:
            before = self.last_step, self.steps, self.first_step, self.sums, BETAS, EPSILON
            compiled_rows.run(compiled_rows.apply_missed, rows, before, self._tables)
        else:
            self._apply_missed(rows)

    @torch.no_grad()
    def step(self, gradient: Tensor, learning_rate: float) -> None:
        """Adam's next step; the gradient is a sparse tensor with entries only in rows that were read."""
        gradient = coalesced(gradient)
        rows, values = gradient.indices()[0], gradient.values()
        scale, epsilon = self._count_step(learning_rate)
        if self._is_compiled:
            before = values.contiguous(), np.float32(scale), np.float32(epsilon), BETAS, self.last_step, self.steps
            compiled_rows.run(compiled_rows.step_rows, rows, before, self._tables)
        else:
            self._step_rows(rows, values, scale, epsilon)

    @torch.no_grad()
    def catch_up(self) -> None:
        """Bring all rows up to date."""
        deferred = torch.nonzero(self.last_step < self.steps)[:, 0]
        for rows in torch.split(deferred, _BLOCK_ROWS):
            self.read(rows)

    def has_read(self, gradient: Tensor) -> bool:
        """Whether all rows with an entry in the sparse gradient are up to date."""
        return bool((self.last_step[gradient._indices()[0]] == self.steps).all())

    def _apply_missed(self, rows: Int[Tensor, " rows"]) -> None:
        """As `compiled_rows.apply_missed`, by PyTorch."""
        last_step = self.last_step[rows]
        mean, square = (table.index_select(0, rows) for table in self._tables[1:])
        sums = self.sums[:, last_step - self.first_step, None]
        scale, epsilon = sums[0].float(), (sums[1] / sums[0]).nan_to_num(EPSILON).float()  # 0 / 0: no update missed
        moved = self.weight.index_select(0, rows).addcdiv_(mean * scale, square.sqrt().add_(epsilon), value=-1)
        missed = (self.steps - last_step).double()[:, None]
        self._store(rows, moved, mean.mul_((BETAS[0] ** missed).float()), square.mul_((BETAS[1] ** missed).float()))

    def _step_rows(self, rows: Int[Tensor, " rows"], values: Tensor, scale: float, epsilon: float) -> None:
        """As `compiled_rows.step_rows`, by PyTorch."""
        weight, mean, square = (table.index_select(0, rows) for table in self._tables)
        mean.lerp_(values, 1 - BETAS[0])
        square.mul_(BETAS[1]).addcmul_(values, values, value=1 - BETAS[1])
        self._store(rows, weight.addcdiv_(mean, square.sqrt().add_(epsilon), value=-scale), mean, square)

    def _store(self, rows: Int[Tensor, " rows"], *values: Float[Tensor, "rows dim"]) -> None:
        for table, each in zip(self._tables, values, strict=True):
            table.index_copy_(0, rows, each)
        self.last_step[rows] = self.steps

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


def coalesced(gradient: Tensor) -> Tensor:
    """The sparse gradient with ascending rows, each once; autograd forgets where it has that form already."""
    rows = gradient._indices()[0]
    if not gradient.is_coalesced() and bool((rows[1:] > rows[:-1]).all()):
        return torch.sparse_coo_tensor(
            gradient._indices(), gradient._values(), gradient.shape, check_invariants=False, is_coalesced=True
        )
    return gradient.coalesce()
