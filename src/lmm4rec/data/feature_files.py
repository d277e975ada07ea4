"""Feature files: one row per item, computed elsewhere, checked before they are used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, Shaped
from safetensors import SafetensorError, safe_open
from typing_extensions import Doc

from lmm4rec.core.errors import DataError
from lmm4rec.core.types import Modality
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.findings import counted

_LARGEST = 1e18
BROKEN = f"NaN, infinity or numbers beyond {_LARGEST:g}"


def read_shipped(
    catalog: Catalog,
    *,
    files: Annotated[Mapping[str, str | Path] | None, Doc("Feature files by modality; left out: the data's.")] = None,
    broken_rows: Annotated[Literal["error", "zero"], Doc("Rows that are not finite: stop, or set to zero.")] = "error",
) -> dict[Modality, Float32[np.ndarray, "items _dim"]]:
    """The features of each modality, row by row as in the catalog.

    `files` are `.npy` or `.safetensors` files with a row for each item of the source; the catalog's `source_rows` say
    which rows are its items'. "zero" takes an item whose row holds NaN, infinity or huge numbers as one
    that lacks the modality.

    Raises:
        DataError: there are no files, or one is missing, is unreadable, has the wrong number of rows or broken ones.
    """
    files = catalog.shipped if files is None else files
    if not files:
        raise DataError('no feature files came with the data: name them, such as files = { image = "image_feat.npy" }')
    features = {}
    for modality, file in files.items():
        rows = read_rows(Path(file), catalog)
        broken = broken_mask(rows)
        if broken.any() and broken_rows == "error":
            ids = ", ".join(catalog.ids[row] for row in np.flatnonzero(broken)[:10])
            raise DataError(
                f"{file} holds {BROKEN} in {counted(int(broken.sum()), 'row')}, of the items {ids}; repair it, "
                f'or take these items as lacking {modality} with broken_rows = "zero"'
            )
        rows[broken] = 0.0
        features[modality] = rows
    return features


def read_rows(path: Path, catalog: Catalog) -> Float32[np.ndarray, "items dim"]:
    """The rows of a feature file that belong to the catalog's items, unchecked for NaN.

    Raises:
        DataError: the file is missing, unreadable, or has not one row for each item of the catalog's source.
    """
    matrix = open_matrix(path)
    if len(matrix) != catalog.source_size:
        expected = f"{catalog.source_size:,}, one for each item of the source"
        raise DataError(f"{path} has {counted(len(matrix), 'row')}; expected {expected}")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinity, which counts as broken
        return matrix[catalog.source_rows].astype(np.float32)


def broken_mask(rows: Float32[np.ndarray, "items dim"]) -> Bool[np.ndarray, " items"]:
    """A mask of the rows with NaN, infinity or numbers whose squares float32 does not hold."""
    return ~(np.abs(rows) <= _LARGEST).all(axis=1)


def open_matrix(path: Path) -> Shaped[np.ndarray, "rows dim"]:
    """The matrix of numbers in a `.npy` (memory-mapped) or `.safetensors` file of one tensor.

    Raises:
        DataError: the file is missing, of another kind, damaged, or holds something else.
    """
    if not path.is_file():
        raise DataError(f"the feature file {path} is missing")
    if path.suffix not in _OPENERS:
        raise DataError(f"{path} is of an unknown kind; expected one of {', '.join(_OPENERS)}")
    matrix = _OPENERS[path.suffix](path)
    if matrix.ndim != 2 or not matrix.shape[1] or matrix.dtype.kind not in "fiu":
        raise DataError(f"{path} holds {matrix.dtype} of shape {matrix.shape}; expected numbers of shape (items, dim)")
    return matrix


def _open_npy(path: Path) -> np.ndarray:
    try:
        opened: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        pickled = "pickle" in str(error)  # NumPy takes what it does not know for a pickle, which could run code
        why = "it is no array of numbers that numpy.save wrote" if pickled else error
        raise DataError(f"{path} is not a readable .npy file: {why}") from None
    if not isinstance(opened, np.ndarray):  # NumPy opens an archive whatever its name
        with opened:
            names = ", ".join(opened.files[:5])
        raise DataError(f"{path} is an .npz archive ({names}); save its array alone, with numpy.save")
    return opened


def _open_safetensors(path: Path) -> np.ndarray:
    try:
        with safe_open(path, framework="pt") as file:  # torch knows bfloat16, numpy does not
            names = list(file.keys())
            if len(names) != 1:
                raise DataError(f"{path} holds {counted(len(names), 'tensor')} ({', '.join(names[:5])}); expected one")
            matrix: np.ndarray = file.get_tensor(names[0]).float().numpy()
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is not a readable .safetensors file: {error}") from None
    return matrix


_OPENERS = {".npy": _open_npy, ".safetensors": _open_safetensors}
