"""Pixels in one byte a value, which come back the same to the last bit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

_LEVELS = 256
_MOST_SLOTS = 4 * _LEVELS


class Levels:
    """The distinct values of each channel, in the order of their first occurrence.

    Images of 8 bits have no more than 256 of them, whatever their scaling.
    """

    def __init__(self, values: Sequence[Float[Tensor, " levels"]] = ()) -> None:
        """`values` are those of each channel that are known."""
        self.values = list(values)
        self._are_too_many = False

    def encode(
        self, pixels: Float[Tensor, "batch channels height width"], present: Bool[Tensor, " batch"] | None = None
    ) -> UInt8[Tensor, "batch channels height width"] | None:
        """The number of each pixel's value; None where a channel has had more than 256 of them.

        Rows that are not `present` are zeros, and for `decode` to fill: 0 would be one value more than an image has.
        """
        self.values = self.values or [torch.empty(0)] * pixels.shape[1]
        seen = pixels if present is None else pixels[present]
        codes = [self._encode(channel, seen[:, channel]) for channel in range(pixels.shape[1])]
        if self._are_too_many:
            return None
        stacked = torch.stack(codes, dim=1)
        return stacked if present is None else stacked.new_zeros(pixels.shape).masked_scatter_(_wide(present), stacked)

    def _encode(self, channel: int, values: Float[Tensor, "batch height width"]) -> Tensor:
        codes = torch.empty(0)
        while not self._are_too_many:
            codes, wrong = _number(self.values[channel], values)
            unknown = values[wrong]
            if not len(unknown):
                return codes
            new = torch.unique(unknown[:: max(1, len(unknown) // 65536)])  # those it misses come in the next round
            self._are_too_many = len(self.values[channel]) + len(new) > _LEVELS
            self.values[channel] = torch.cat([self.values[channel], new])
        return codes

    def decode(
        self, codes: UInt8[Tensor, "batch channels height width"], present: Bool[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """The pixels that were encoded, zeros in the rows that are not `present`."""
        known = [one.to(codes.device) if len(one) else torch.zeros(1, device=codes.device) for one in self.values]
        pixels = torch.stack([values[codes[:, channel].long()] for channel, values in enumerate(known)], dim=1)
        return pixels if present is None else pixels.masked_fill_(~_wide(present.to(codes.device)), 0.0)


def _wide(rows: Bool[Tensor, " batch"]) -> Bool[Tensor, "batch 1 1 1"]:
    return rows[:, None, None, None]


def _number(
    known: Float[Tensor, " levels"], values: Float[Tensor, "*shape"]
) -> tuple[UInt8[Tensor, "*shape"], Bool[Tensor, "*shape"]]:
    """The number of each value among the known ones, and whether it is none of them."""
    if not len(known):
        return torch.zeros_like(values, dtype=torch.uint8), torch.ones_like(values, dtype=torch.bool)
    ordered, places = known.sort()
    first, step = ordered[0], (ordered[1:] - ordered[:-1]).min() if len(ordered) > 1 else torch.ones(())
    slots = _slots(ordered, first, step, _MOST_SLOTS).long()
    place_of_slot = torch.zeros(int(slots[-1]) + 1, dtype=torch.long)
    place_of_slot[slots] = torch.arange(len(ordered))
    # images have even levels, which a division finds in a sixth of the time of a search
    nearest = _slots(values.flatten(), first, step, int(slots[-1]))
    codes = places[place_of_slot].to(torch.uint8).index_select(0, nearest)
    wrong = ordered[place_of_slot].index_select(0, nearest) != values.flatten()
    if wrong.any():
        missed = values.flatten()[wrong]
        found = torch.searchsorted(ordered, missed).clamp_(max=len(known) - 1)
        codes[wrong] = places[found].to(torch.uint8)
        wrong[wrong.clone()] = ordered[found] != missed
    return codes.view(values.shape), wrong.view(values.shape)


def _slots(
    values: Float[Tensor, " values"], first: Float[Tensor, ""], step: Float[Tensor, ""], last: int
) -> Int[Tensor, " values"]:
    """The numbers of steps from the first level to the values, rounded, and kept from 0 to `last`."""
    return (values - first).div_(step).round_().nan_to_num_(0.0).clamp_(0, last).int()
