"""Gaussian diffusion of rows over all items, such as a user's interactions, and a network that removes the noise."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.nn.csr import entries_of
from lmm4rec.nn.graph import dropout
from lmm4rec.nn.projections import xavier_weight

_ROWS = 1024  # users whose rows are held at once


class DiffusionSchedule(nn.Module):
    """The noise of steps 0 to `steps` - 1, whose variance 1 - signal² grows from `low` to `high` in equal steps.

    Step 0 has the variance 1e-4, as in DiffRec (arXiv 2304.04971); each later one has the ratio of two signals of the
    equal steps. x_t = signal_t · x_0 + sqrt(1 - signal_t²) · noise (Ho et al. 2020, arXiv 2006.11239, eq. 4).
    """

    signal: Tensor
    noise: Tensor
    weight: Tensor
    of_start: Tensor
    of_current: Tensor

    def __init__(self, steps: int, low: float, high: float) -> None:
        super().__init__()
        kept = 1 - torch.linspace(low, high, steps, dtype=torch.float64)
        alpha = torch.cat([torch.tensor([1 - 1e-4], dtype=torch.float64), kept[1:] / kept[:-1]])
        alpha_bar = alpha.cumprod(0)
        before = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
        ratio = alpha_bar / (1 - alpha_bar)
        tables = {
            "signal": alpha_bar.sqrt(),
            "noise": (1 - alpha_bar).sqrt(),
            "weight": torch.cat([alpha_bar.new_ones(1), ratio[:-1] - ratio[1:]]),  # of the squared error at a step
            "of_start": (1 - alpha) * before.sqrt() / (1 - alpha_bar),  # of x_0 in the mean of x_(t-1)
            "of_current": (1 - before) * alpha.sqrt() / (1 - alpha_bar),  # of x_t in it
        }
        for name, table in tables.items():
            self.register_buffer(name, table.float(), persistent=False)

    def add_noise(
        self, start: Float[Tensor, "rows items"], steps: Int[Tensor, " rows"], noise: Float[Tensor, "rows items"]
    ) -> Float[Tensor, "rows items"]:
        """x_t of rows, each at its own step."""
        return self.signal[steps][:, None] * start + self.noise[steps][:, None] * noise


class Denoiser(nn.Module):
    """The prediction of x_0 from x_t and t: tanh(x_t · V + time_t · T + b) · Wᵀ + c, with dropout on x_t in training.

    time_t are cosines and sines of t, `times` numbers.
    """

    def __init__(self, items: int, width: int, times: int, share_dropped: float, generator: torch.Generator) -> None:
        super().__init__()
        self.times, self.share_dropped = times, share_dropped
        self.inner, self.outer = (xavier_weight(items, width, generator) for _ in range(2))
        self.time, self.inner_bias = xavier_weight(times, width, generator), nn.Parameter(torch.zeros(width))
        self.outer_bias = nn.Parameter(torch.zeros(items))

    def forward(
        self, noisy: Float[Tensor, "rows items"], steps: Int[Tensor, " rows"], generator: torch.Generator | None
    ) -> Float[Tensor, "rows items"]:
        """The predicted x_0; with dropout where there is a generator."""
        if generator is not None and self.share_dropped:
            noisy = dropout(noisy, self.share_dropped, generator)
        return F.linear(self._hidden(noisy @ self.inner, steps), self.outer, self.outer_bias)

    def _hidden(self, product: Float[Tensor, "rows width"], steps: Int[Tensor, " rows"]) -> Float[Tensor, "rows width"]:
        half = self.times // 2
        rates = torch.exp(-math.log(10000) * torch.arange(half, device=product.device) / half)
        angles = steps[:, None] * rates
        return (product + torch.cat([angles.cos(), angles.sin()], dim=1) @ self.time + self.inner_bias).tanh()

    @torch.no_grad()
    def restored(self, rows: Tensor, schedule: DiffusionSchedule) -> Iterator[Float[Tensor, "block items"]]:
        """The rows of a sparse matrix after the mean reverse step from the last step to step 0, in blocks.

        Between steps only the products with V are kept: x_(t-1) is a weighted sum of x_t and of the prediction h · Wᵀ +
        c, whose product is h · (Wᵀ · V) + c · V. Width × width numbers instead of width × items are multiplied.
        """
        across, shift = self.outer.T @ self.inner, self.outer_bias @ self.inner
        count = rows.shape[0]
        for start in range(0, count, _ROWS):
            chosen = torch.arange(start, min(start + _ROWS, count), device=across.device)
            own, entries = entries_of(rows, chosen)
            product = across.new_zeros(len(chosen), across.shape[0])
            columns, values = rows.col_indices()[entries].long(), rows.values()[entries]
            product.index_add_(0, own, values[:, None] * self.inner.index_select(0, columns))
            for step in range(len(schedule.signal) - 1, 0, -1):
                hidden = self._hidden(product, torch.full_like(chosen, step))
                product = schedule.of_start[step] * (hidden @ across + shift) + schedule.of_current[step] * product
            # at step 0 the mean is the prediction itself
            yield F.linear(self._hidden(product, torch.zeros_like(chosen)), self.outer, self.outer_bias)
