"""The moving average of the weights over epochs, which is validated and kept in place of the last epoch's weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class WeightAverage:
    """Average = share x average + (1 - share) x weights after each epoch.

    The weights after an epoch lie around the optimum by the noise of the last steps; their average lies closer to it.
    The first epochs are averaged evenly, so that the first weights drawn do not stay in it; weights of an earlier
    training do (`start`). Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J.
    Control Optim. 1992.
    """

    def __init__(self, share: float = 0.0) -> None:
        """A `share` of 0 averages nothing: the weights stay as they are."""
        self.share = share
        self.tensors: dict[str, Tensor] = {}
        self._started = False

    def start(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with weights of an earlier training."""
        if self.share:
            self.tensors = {name: weight.detach().clone() for name, weight in weights.items()}
            self._started = True

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], epoch: int) -> None:
        """Take in the weights after an epoch, counted from 1; integers are those of the last epoch."""
        if not self.share:
            return
        new = 1 - self.share if self._started else max(1 - self.share, 1 / epoch)
        for name, weight in weights.items():
            if name in self.tensors and weight.is_floating_point():
                self.tensors[name] = self.tensors[name].to(weight.device).lerp_(weight, new)  # read from a file: CPU
            else:
                self.tensors[name] = weight.detach().clone()

    @contextmanager
    def in_place_of(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Within the context the tensors of `weights` hold the average, and after it their own values again."""
        names = list(self.tensors)
        self._exchange(weights, names)
        try:
            yield
        finally:
            self._exchange(weights, reversed(names))  # in turn, since a tied weight stands there under two names

    @torch.no_grad()
    def _exchange(self, weights: Mapping[str, Tensor], names: Iterable[str]) -> None:
        for name in names:
            value = weights[name].clone()
            weights[name].copy_(self.tensors[name])
            self.tensors[name].copy_(value)
