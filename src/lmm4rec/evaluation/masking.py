"""Masks of rankings: the known interactions whose items a user is not ranked."""

from __future__ import annotations

from typing import Annotated, Literal

from typing_extensions import Doc

from lmm4rec.data.interactions import Interactions
from lmm4rec.data.splits import Split


def masked(
    split: Split,
    part: Literal["valid", "test"],
    *,
    protocol: Annotated[
        Literal["strict", "mmrec"], Doc("Interactions left out of rankings; mmrec: training alone, in the test too.")
    ] = "strict",
) -> list[Interactions]:
    """The interactions whose items are left out of a user's ranking when `part` is measured.

    "strict": all that is known at that point, so training and validation positives when testing. "mmrec": training
    positives only, as the public MMRec toolbox does; validation positives then compete with the test items.
    """
    return [split.train, split.valid] if part == "test" and protocol == "strict" else [split.train]
