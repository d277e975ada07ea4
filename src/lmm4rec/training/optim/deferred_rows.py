"""Adam's steps of a table's rows, put off until somebody reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

BETAS, EPSILON = (0.9, 0.999), 1e-8
_FADED = 512  # steps after which nothing is left of a row's momentum: 0.9 ** 512 is 4e-24
_ROWS = 2**14  # that are brought up to date at once


class _Read(NamedTuple):
    """Rows that a batch reads, and their moments, decayed but not written back."""

    rows: Int[Tensor, " rows"]
    mean: Float[Tensor, "rows dim"]
    square: Float[Tensor, "rows dim"]


class RestingRows:
    """A table under Adam in whose steps only some rows have a gradient.

    Adam moves the other rows too, by what is left of their momentum. Here they rest, until they are moved by all of
    these steps at once. A row that had its last gradient in step s, and then the moments m and v, is moved in step i by

        m · w_i / (sqrt(v) + e_i),   w_i = lr_i · sqrt(1 - b2^i) / (1 - b1^i) · (b1 / sqrt(b2))^(i-s),
                                     e_i = eps · sqrt(1 - b2^i) / b2^((i-s)/2).

    Here the e_i of all steps are replaced by their mean, weighted by w_i: a row then needs but two sums, of w_i and of
    w_i · e_i, which rows of the same s share. It is Adam to the rounding, where gradients are not as small as eps.
    """

    def __init__(self, weight: Float[Tensor, "table dim"], state: Mapping[str, Tensor]) -> None:
        """`state` as in `torch.optim.Adam`: "step", "exp_avg" and "exp_avg_sq", which are kept up."""
        self.weight, self.state = weight.detach(), state
        self.first = self.steps = int(state["step"])
        self.last = torch.full((len(weight),), self.steps, device=weight.device)
        # the sums of w_i and of w_i · e_i until now, for s = first, first + 1, ...
        self.owed = torch.zeros(2, 1, dtype=torch.float64, device=weight.device)
        self.read: _Read | None = None

    @torch.no_grad()
    def bring(self, rows: Int[Tensor, " rows"]) -> None:
        """Bring these rows up to date for a batch that reads them; `step` or `settle` is next."""
        self._write_back()
        rows = torch.unique(rows)
        mean, square = self._moved(rows)
        self.read = _Read(rows, mean, square)

    @torch.no_grad()
    def step(self, gradient: Tensor, rate: float) -> None:
        """Adam's next step; the gradient is a sparse tensor with entries only in the rows that were brought."""
        assert self.read is not None, "no rows were brought for this gradient"
        rows, mean, square = self.read
        values = _on(rows, gradient.coalesce())
        scale, epsilon = self._advance(rate)
        mean.lerp_(values, 1 - BETAS[0])
        square.mul_(BETAS[1]).addcmul_(values, values, value=1 - BETAS[1])
        moved = self.weight.index_select(0, rows).addcdiv_(mean, square.sqrt().add_(epsilon), value=-scale)
        self.weight.index_copy_(0, rows, moved)
        self._write_back()

    @torch.no_grad()
    def settle(self) -> None:
        """Bring all rows up to date."""
        self._write_back()
        late = torch.nonzero(self.last < self.steps)[:, 0]
        for rows in torch.split(late, _ROWS):
            mean, square = self._moved(rows)
            self.read = _Read(rows, mean, square)
            self._write_back()

    def _moved(self, rows: Int[Tensor, " rows"]) -> tuple[Float[Tensor, "rows dim"], Float[Tensor, "rows dim"]]:
        """Move the rows by the steps that they have missed; their moments now."""
        last = self.last[rows]
        mean, square = (self.state[name].index_select(0, rows) for name in ("exp_avg", "exp_avg_sq"))
        owed = self.owed[:, last - self.first, None]
        share, epsilon = owed[0].float(), (owed[1] / owed[0]).nan_to_num(EPSILON).float()  # 0 / 0: nothing is owed
        moved = self.weight.index_select(0, rows).addcdiv_(mean * share, square.sqrt().add_(epsilon), value=-1)
        self.weight.index_copy_(0, rows, moved)
        missed = (self.steps - last).double()[:, None]
        return mean.mul_((BETAS[0] ** missed).float()), square.mul_((BETAS[1] ** missed).float())

    def _advance(self, rate: float) -> tuple[float, float]:
        """Count a step, which all resting rows then owe; its rate and its epsilon with the bias corrections in them."""
        self.steps += 1
        self.state["step"].fill_(self.steps)
        root = (1 - BETAS[1] ** self.steps) ** 0.5
        scale = rate * root / (1 - BETAS[0] ** self.steps)
        ages = torch.arange(min(self.owed.shape[1], _FADED), 0, -1, dtype=torch.float64, device=self.owed.device)
        weights = scale * (BETAS[0] / BETAS[1] ** 0.5) ** ages
        self.owed[:, -len(ages) :] += torch.stack([weights, weights * EPSILON * root / BETAS[1] ** (ages / 2)])
        self.owed = torch.cat([self.owed, self.owed.new_zeros(2, 1)], dim=1)
        return scale, EPSILON * root

    def _write_back(self) -> None:
        """Keep the moments of the rows that were read, as of the step that is counted now."""
        if self.read is None:
            return
        rows, mean, square = self.read
        self.state["exp_avg"].index_copy_(0, rows, mean)
        self.state["exp_avg_sq"].index_copy_(0, rows, square)
        self.last[rows] = self.steps
        self.read = None


def _on(rows: Int[Tensor, " rows"], gradient: Tensor) -> Float[Tensor, "rows dim"]:
    """The values of a coalesced gradient at the given rows, which are sorted and hold all of its own."""
    own, values = gradient.indices()[0], gradient.values()
    if len(own) == len(rows):
        return values
    place = torch.searchsorted(rows, own)
    return values.new_zeros(len(rows), values.shape[1]).index_copy_(0, place, values)
