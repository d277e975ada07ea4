"""Export of a split data set and its features for the MMRec toolbox (arXiv 2302.03497); the source `mmrec` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float32

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.files import atomic
from lmm4rec.core.types import Modality
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.findings import Finding, agreeing, counted
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.splits import TEST, TRAIN, VALID, Split


def write_mmrec(
    split: Split, features: Mapping[Modality, Float32[np.ndarray, "items _dim"]], folder: Path, *, name: str
) -> tuple[Finding, ...]:
    """Write `NAME.inter`, `<modality>_feat.npy`, `item_ids.csv` and `user_ids.csv` to a folder.

    The log has `userID itemID [rating timestamp] x_label`, tab-separated, a user's interactions together; x_label is 0
    where it trains, 1 where it validates, 2 where it tests. Row i of a feature file is itemID i; a row of zeros is an
    item that lacks it.

    Files of the same names are replaced. Returns findings on what MMRec would read differently.

    Raises:
        ConfigError: the name is not the name of a file.
    """
    if name in ("", ".", "..") or Path(name).name != name:
        raise ConfigError(f"name = {name!r} must be the name of a file, without folders")
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(_log(split), folder / f"{name}.inter", separator="\t")
    _write_csv(_ids(split.dataset.items, "itemID", "item_id"), folder / "item_ids.csv")
    _write_csv(_ids(split.dataset.users, "userID", "user_id"), folder / "user_ids.csv")
    for modality, rows in features.items():
        with atomic(folder / f"{modality}_feat.npy") as beside, beside.open("wb") as file:
            np.save(file, rows.astype(np.float32), allow_pickle=False)
    return _check_ids(split)


def _log(split: Split) -> pl.DataFrame:
    parts = ((split.train, TRAIN), (split.valid, VALID), (split.test, TEST))
    frame = pl.concat([_part(part, label) for part, label in parts])
    return frame.sort("userID", maintain_order=True)


def _part(part: Interactions, label: int) -> pl.DataFrame:
    columns = {
        "userID": part.users,
        "itemID": part.items,
        "rating": part.ratings,
        "timestamp": part.timestamps,
        "x_label": np.full(len(part), label, dtype=np.int8),
    }
    return pl.DataFrame({column: values for column, values in columns.items() if values is not None})


def _ids(ids: Vocabulary, inner: str, outer: str) -> pl.DataFrame:
    return pl.DataFrame({inner: range(len(ids)), outer: list(ids)}, schema={inner: pl.Int64, outer: pl.String})


def _write_csv(frame: pl.DataFrame, path: Path, separator: str = ",") -> None:
    with atomic(path) as beside:
        frame.write_csv(beside, separator=separator)


def _check_ids(split: Split) -> tuple[Finding, ...]:
    """Findings on ids beyond those of the log: MMRec counts users and items by the largest id in the log."""
    parts = (split.train, split.valid, split.test)
    seen = {
        "user": (max(int(part.users.max(initial=0)) for part in parts), split.dataset.users),
        "item": (max(int(part.items.max(initial=0)) for part in parts), split.dataset.items),
    }
    findings = []
    for kind, (last, ids) in seen.items():
        beyond = ids[last + 1 :]
        if beyond:
            message = (
                f"the last {counted(len(beyond), kind)} {agreeing(len(beyond), 'have')} no interaction in any part; "
                f"MMRec itself counts {kind}s by the largest {kind}ID of the log and would miss them (k_core = 1 or "
                "more leaves them out)"
            )
            examples = tuple(f"{kind} {id_}" for id_ in beyond[:10])
            findings.append(Finding(f"no-interaction-{kind}", "warning", len(beyond), message, examples))
    return tuple(findings)
