"""Approximate search for the items with the highest scores, for catalogs where scoring every item is too slow.

Without an index, search is exact. FAISS (Douze et al. 2024, arXiv 2401.08281) comes with the extra `faiss`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lmm4rec.core.errors import ConfigError, optional
from lmm4rec.core.types import PositiveInt
from lmm4rec.evaluation.ranking import Ranking

IndexKind: TypeAlias = Literal["hnsw", "ivf"]

_LINKS, _BUILD_EFFORT = 32, 100  # of HNSW: edges of a node, and candidates while one is linked
_FEW = 0.25  # up to this share of the items, scoring all that pass a filter is faster, and exact


@dataclass(frozen=True)
class Index:
    """An index of the rows of an item matrix by inner product; items added since it was built are scored exactly.

    It never changes, so any number of threads may search it while items are added: these are found at once.
    """

    kind: IndexKind
    built: int  # rows in the index
    faiss_index: Any
    effort: int  # HNSW: candidates kept (efSearch); IVF: cells visited (nprobe)

    @classmethod
    def build(
        cls, items: Float[Tensor, "items dim"], kind: IndexKind = "hnsw", *, effort: PositiveInt | None = None
    ) -> Index:
        """The index of all rows. A larger `effort` finds more of the exact answer and takes longer.

        "hnsw" (Malkov and Yashunin 2018, arXiv 1603.09320) is fastest and finds most; its graph is built by the inner
        product itself: with vectors extended to equal length (Bachrach et al. 2014), `benchmarks/search.py` loses a
        tenth of the recall. "ivf" visits the nearest cells of a k-means clustering and is built in less time and
        memory.

        Raises:
            ConfigError: the kind is unknown.
            MissingExtraError: FAISS is not installed.
        """
        faiss = optional("faiss", extra="faiss", purpose=f"the index '{kind}'")
        vectors = np.ascontiguousarray(items.numpy(), dtype=np.float32)
        count, dim = vectors.shape
        if kind == "hnsw":
            index = faiss.IndexHNSWFlat(dim, _LINKS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = _BUILD_EFFORT
            index.add(vectors)
            return cls(kind, count, index, effort or 64)
        if kind == "ivf":
            cells = max(1, min(int(4 * math.sqrt(count)), count // 39))  # 39 rows a cell is what FAISS asks for
            index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
            index.train(vectors)
            index.add(vectors)
            return cls(kind, count, index, effort or max(1, cells // 16))
        raise ConfigError(f"unknown index '{kind}'; there are: hnsw, ivf")

    def search(
        self,
        users: Float[Tensor, "users dim"],
        items: Float[Tensor, "items dim"],
        k: int,
        allowed: Bool[Tensor, " items"] | None,
        excluded: Sequence[Int64[np.ndarray, " _excluded"] | None],
    ) -> Ranking:
        """The `k` best of `items` for each user; -1 with score -inf pads where fewer are found.

        `allowed` marks the rows that may be recommended (None: all), `excluded` has the rows that each user must not
        get. Scores are those of the vectors, not of the index.
        """
        few = None if allowed is None or int(allowed.sum()) > _FEW * len(items) else allowed.nonzero()[:, 0]
        best = [
            self._best(user, items, k, allowed, np.empty(0, np.int64) if rows is None else rows, few)
            for user, rows in zip(users, excluded, strict=True)
        ]
        rows, scores = zip(*best, strict=True) if best else ((), ())
        return Ranking(np.array(rows, np.int64).reshape(-1, k), np.array(scores, np.float32).reshape(-1, k))

    def _best(
        self,
        user: Float[Tensor, " dim"],
        items: Float[Tensor, "items dim"],
        k: int,
        allowed: Bool[Tensor, " items"] | None,
        excluded: Int64[np.ndarray, " excluded"],
        few: Int64[Tensor, " few"] | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        if few is None:
            old = torch.from_numpy(self._approximate(user, k, allowed, excluded))
            new = torch.arange(self.built, len(items))
            candidates = torch.cat([old.sort().values, new if allowed is None else new[allowed[self.built :]]])
        else:
            candidates = few
        if len(excluded):
            candidates = candidates[~torch.isin(candidates, torch.from_numpy(excluded))]
        scores = items.index_select(0, candidates) @ user  # a third of the time of items[candidates]
        lowest = scores.topk(min(k, len(scores))).values[-1:]
        candidates, scores = candidates[scores >= lowest], scores[scores >= lowest]
        order = scores.argsort(descending=True, stable=True)[:k]  # of equal scores the first row is first
        rows, best = np.full(k, -1, np.int64), np.full(k, -np.inf, np.float32)
        rows[: len(order)], best[: len(order)] = candidates[order].numpy(), scores[order].numpy()
        return rows, best

    def _approximate(
        self, user: Float[Tensor, " dim"], k: int, allowed: Bool[Tensor, " items"] | None, excluded: np.ndarray
    ) -> Int64[np.ndarray, " found"]:
        faiss = optional("faiss", extra="faiss", purpose="the index")
        selectors: list[Any] = []
        if allowed is not None:
            bits = np.packbits(allowed[: self.built].numpy(), bitorder="little")
            selectors.append(faiss.IDSelectorBitmap(bits))
        if len(excluded):
            selectors.append(faiss.IDSelectorNot(faiss.IDSelectorBatch(excluded)))
        selector = selectors[0] if len(selectors) == 1 else None
        if len(selectors) == 2:
            selector = faiss.IDSelectorAnd(*selectors)
        # the indexed rows are zero in later columns
        query = user.numpy().astype(np.float32)[None, : self.faiss_index.d]
        share = 1.0 if allowed is None else float(allowed[: self.built].float().mean())
        effort = math.ceil(self.effort / max(share, _FEW))  # the fewer items are allowed, the more must be visited
        if self.kind == "hnsw":
            parameters = faiss.SearchParametersHNSW(efSearch=max(effort, k), sel=selector)
        else:
            parameters = faiss.SearchParametersIVF(nprobe=min(effort, self.faiss_index.nlist), sel=selector)
        found = self.faiss_index.search(query, min(k, self.built), params=parameters)[1][0]
        return found[found >= 0].astype(np.int64)
