"""The set of all training interactions, among which no negative may be."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

_BITS_FOR_EACH = 8  # of the table of hashes, at least: a byte or two for each key, which itself takes eight
_MULTIPLIER = 0x9E3779B97F4A7C15 - 2**64  # 2^64 divided by the golden ratio (Knuth, TAOCP 3, section 6.4)


class InteractionSet:
    """Pairs of a user and an item, as ascending, distinct `keys`: user · `n_items` + item.

    A search among millions of keys waits for memory some twenty times. So a table first tells which keys cannot be
    there: those whose hash is that of no interaction, nine of ten. Only the others are searched.
    """

    def __init__(self, users: Int[Tensor, " pairs"], items: Int[Tensor, " pairs"], n_items: int) -> None:
        """At least one pair; a pair may come more than once."""
        self.n_items, self.keys = n_items, torch.unique(users.long() * n_items + items)
        self._width = (_BITS_FOR_EACH * len(self.keys) - 1).bit_length()  # of a hash: a place and a bit of it
        self._table = torch.zeros(2 ** (self._width - 3), dtype=torch.uint8)
        places, bits = self._hash(self.keys)
        for bit in range(8):
            self._table[places[bits == bit]] |= 1 << bit

    def negatives(
        self, users: Int[Tensor, " drawn"], draw: Callable[[int], Int[Tensor, " _drawn"]]
    ) -> Int[Tensor, " drawn"]:
        """For each user an item with which it has not interacted: `draw(n)` draws n items, again those that it has."""
        starts, items = users * self.n_items, draw(len(users))
        rejected = self.contains(starts + items).nonzero().squeeze(1)
        while len(rejected):
            items[rejected] = draw(len(rejected))
            rejected = rejected[self.contains(starts[rejected] + items[rejected])]
        return items

    def contains(self, keys: Int[Tensor, " asked"]) -> Bool[Tensor, " asked"]:
        """Whether each key is that of an interaction."""
        places, bits = self._hash(keys)
        found = (self._table[places] >> bits & 1).bool()
        possible = found.nonzero().squeeze(1)
        wanted = keys[possible]
        nearest = torch.searchsorted(self.keys, wanted).clamp_(max=len(self.keys) - 1)
        found[possible] = self.keys[nearest] == wanted
        return found

    def _hash(self, keys: Int[Tensor, " keys"]) -> tuple[Int[Tensor, " keys"], UInt8[Tensor, " keys"]]:
        """A byte of the table and one of its bits: the highest bits of a product in which all bits of the key count."""
        hashes = (keys * _MULTIPLIER >> 64 - self._width) & 2**self._width - 1
        return hashes >> 3, (hashes & 7).to(torch.uint8)
