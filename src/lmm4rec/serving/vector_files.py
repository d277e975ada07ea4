"""What a model has learned, for other tools: vectors as Parquet or with a FAISS index, or the weights between items."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lmm4rec.core.errors import ConfigError, optional
from lmm4rec.core.files import atomic_folder, write_json
from lmm4rec.core.parquet_parts import parquet_in_parts
from lmm4rec.core.progress import progress
from lmm4rec.core.types import Embeddings, Neighbors
from lmm4rec.nn.transitions import Transitions
from lmm4rec.serving.bundle_state import BundleState
from lmm4rec.serving.catalog_view import CatalogView
from lmm4rec.serving.index import Index

VectorFormat: TypeAlias = Literal["parquet", "faiss", "weights"]
FACTS = "vectors.json"
_ROWS = 512  # of a matrix of weights at a time


def write_vectors(
    state: BundleState,
    model: str,
    folder: Path,
    form: VectorFormat,
    index: Literal["exact", "hnsw", "ivf"],
) -> Mapping[str, Any]:
    """Write what a bundle's scores come from to a folder, which replaces an earlier one; returns `vectors.json`.

    - "parquet": `users.parquet` (user, vector) and `items.parquet` (item, title, vector). A score is the inner product
      of two vectors; a bias is one of their columns.
    - "faiss": the same, and `items.faiss`, an index by inner product whose row i is row i of `items.parquet`.
    - "weights", for models without vectors: `weights.parquet` (item, history_item, weight). A score is the sum of an
      item's weights over the items of the user's history.

    Raises:
        ConfigError: the model has no vectors, or no weights; the folder holds something else.
        MissingExtraError: FAISS is not installed.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / FACTS).exists())):
        raise ConfigError(f"{folder} holds something else than exported vectors; name another folder")
    scorer, catalog, users = state.scorer, state.catalog, list(state.histories.users)
    rows = catalog.present.nonzero()[:, 0]
    facts: dict[str, Any] = {"model": model, "format": form, "users": len(users), "items": len(rows)}
    if form == "weights":
        if type(scorer) is not Neighbors:
            raise ConfigError(f"{model} has no weights between items: {_instead(scorer)}")
        with atomic_folder(folder) as beside:
            facts["weights"] = _write_weights(catalog, scorer, rows.numpy(), beside / "weights.parquet")
            write_json(beside / FACTS, facts)
        return facts
    if not isinstance(scorer, Embeddings):
        raise ConfigError(
            f"{model} has no vectors of users and items, because its scores come from the users' histories: "
            f"{_instead(scorer)}"
        )
    parts = {name: [columns.start, columns.stop] for name, columns in scorer.parts.items()}
    facts |= {"dim": scorer.items.shape[1], "score": "inner product", "columns": parts}
    with atomic_folder(folder) as beside:
        items = scorer.items[rows]
        _frame("user", users, scorer.users).write_parquet(beside / "users.parquet")
        frame = _frame("item", [catalog.id(row) for row in rows.tolist()], items)
        titles = pl.Series("title", [catalog.title(row) for row in rows.tolist()], dtype=pl.String)
        frame.insert_column(1, titles).write_parquet(beside / "items.parquet")
        if form == "faiss":
            faiss = optional("faiss", extra="faiss", purpose='the format "faiss"')
            faiss.write_index(_index(items, index), str(beside / "items.faiss"))
            facts["index"] = index
        write_json(beside / FACTS, facts)
    return facts


def _instead(scorer: object) -> str:
    """What can be exported of such a model."""
    if isinstance(scorer, Embeddings):
        return 'its vectors are exported as "parquet" or "faiss"'
    if type(scorer) is Neighbors:
        return 'its weights between items are exported as "weights"'
    if isinstance(scorer, Transitions):
        return "they depend on the last item of a history alone, so export lists instead (lmm4rec recommend --all)"
    return "they depend on all users alike, so export lists instead (lmm4rec recommend --all)"


def _frame(kind: str, ids: list[str], vectors: Float[Tensor, "rows dim"]) -> pl.DataFrame:
    rows = np.ascontiguousarray(vectors.float().numpy())
    return pl.DataFrame({kind: pl.Series(ids, dtype=pl.String), "vector": pl.Series(rows)})


def _index(items: Float[Tensor, "items dim"], index: Literal["exact", "hnsw", "ivf"]) -> Any:
    if index != "exact":
        return Index.build(items, index).faiss_index
    faiss = optional("faiss", extra="faiss", purpose='the format "faiss"')
    flat = faiss.IndexFlatIP(items.shape[1])
    flat.add(np.ascontiguousarray(items.float().numpy()))
    return flat


def _write_weights(catalog: CatalogView, scorer: Neighbors, rows: Int64[np.ndarray, " items"], path: Path) -> int:
    """Write the weights that are not 0, block by block; returns their number."""
    ids = np.array([catalog.id(row) for row in range(len(catalog))], dtype=object)  # removed ones stay in histories
    count, bar = 0, progress(total=len(rows), description="weights", unit="item", after_s=0.5)
    with parquet_in_parts(path) as append, bar:
        for start in range(0, len(rows), _ROWS):
            block = rows[start : start + _ROWS]
            at, columns, values = _entries(scorer.similarity, block)
            named = {"item": ids[block[at]], "history_item": ids[columns]}
            frame = pl.DataFrame({name: pl.Series(one.tolist(), dtype=pl.String) for name, one in named.items()})
            append(frame.with_columns(weight=pl.Series(values, dtype=pl.Float32)))
            count += frame.height
            bar.update(len(block))
    return count


def _entries(
    matrix: Tensor, rows: Int64[np.ndarray, " rows"]
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"], np.ndarray]:
    """Positions in `rows`, columns and values of the entries that are not 0."""
    if matrix.layout == torch.strided:
        dense = matrix[torch.from_numpy(rows)].numpy()
        at, columns = np.nonzero(dense)
        return at, columns, dense[at, columns]
    starts, counts = matrix.crow_indices().numpy()[rows], np.diff(matrix.crow_indices().numpy())[rows]
    at = np.repeat(np.arange(len(rows)), counts)
    places = starts[at] + np.arange(len(at)) - (np.cumsum(counts) - counts)[at]
    columns, values = matrix.col_indices().numpy()[places].astype(np.int64), matrix.values().numpy()[places]
    kept = values != 0
    return at[kept], columns[kept], values[kept]
