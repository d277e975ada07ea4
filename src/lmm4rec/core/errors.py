"""Errors that say what was given, what was expected and what to do."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable, Sequence
from types import ModuleType


class LMM4RecError(Exception):
    """The root of every error that a user can mend."""


class ConfigError(LMM4RecError):
    """A key or a value of a conf file (or of a call) is wrong."""


class DataError(LMM4RecError):
    """A data set, or a file of one, cannot be used as it is."""


class ImageError(DataError):
    """An image cannot be read."""


class CheckpointError(LMM4RecError):
    """A saved state is damaged, or belongs to another model or run."""


class TrainingError(LMM4RecError):
    """Training cannot go on: a loss is not finite, there is nothing to sample, ..."""


class ProcessLostError(LMM4RecError):
    """Another of the processes that train one model has ended, so that this one cannot go on."""


class MissingExtraError(LMM4RecError, ImportError):
    """An optional dependency is not installed."""


class StorageError(LMM4RecError, OSError):
    """A file or folder cannot be written or opened: the disk is full, permission is denied, a file is in the way."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """ " Did you mean 'x'?" for the nearest known name, or an empty string."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(given.lower(), list(names), n=1, cutoff=0.6)
    return f" Did you mean '{names[near[0]]}'?" if near else ""


def nearest_id(given: str, ids: Sequence[str]) -> str:
    """A hint on an unknown id: " Did you mean 'u007'?" where another spelling of it is known, else the form of the ids.

    Ids with other numbers in them are never offered: they are other users and items.
    """
    numbers = _numbers(given)
    hint = did_you_mean(given, (id_ for id_ in ids if _numbers(id_) == numbers))
    return hint or (f" They look like '{ids[0]}'" if ids else "")


def _numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall("[0-9]+", text)]


_ALLOCATION = re.compile(r"(?i)can't allocate memory|out of memory|unable to allocate|not enough memory")
_ASKED = re.compile(r"(?i)allocate (\d+) bytes|allocate ([\d.]+ [KMGTPE]iB)")


def memory_error(error: BaseException) -> LMM4RecError | None:
    """An error that says how much memory was asked for, where the cause is that it does not suffice; else None."""
    if not (isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _ALLOCATION.search(str(error)))):
        return None
    found = _ASKED.search(str(error))
    asked = "" if found is None else f" for another {int(found[1]) / 1e9:,.1f} GB" if found[1] else f" for {found[2]}"
    return LMM4RecError(
        f"the memory does not suffice{asked}: lower recommender.dim, train.batch_size or features.memory_mb, or take a "
        "machine with more; `lmm4rec run CONF --dry-run` estimates what a run takes"
    )


def optional(module: str, *, extra: str, purpose: str) -> ModuleType:
    """The imported `module`, or an error that names the extra to install.

    Raises:
        MissingExtraError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".", maxsplit=1)[0]:
            raise
        message = f"{purpose} needs '{module}', which is not installed: pip install 'lmm4rec[{extra}]'"
        raise MissingExtraError(message) from error
