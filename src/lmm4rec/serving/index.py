"""Approximate search for the items with the largest products, for catalogs where scoring every item is too slow.

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
_FEW = 0.25  # the share of items up to which a filter makes scoring them all the faster and the exact way


@dataclass(frozen=True)
class Index:
    """Rows of an item matrix, found by inner product; what was added since it was built is scored exactly.

    It never changes, so any number of threads may search it while items are added: these are searchable at once.
    """

    kind: IndexKind
    built: int  # rows that the structure holds
    faiss_index: Any
    effort: int  # HNSW: candidates kept (efSearch); IVF: cells visited (nprobe)

    @classmethod
    def build(
        cls, items: Float[Tensor, "items dim"], kind: IndexKind = "hnsw", *, effort: PositiveInt | None = None
    ) -> Index:
        """The index of all rows. A larger `effort` finds more of the exact answer and takes longer.

        "hnsw" (Malkov and Yashunin 2018, arXiv 1603.09320) answers fastest and finds most; its graph is made by inner
        product as it is: brought to one length by one more number (Bachrach et al. 2014), the vectors of
        `benchmarks/search.py` lose a tenth of the recall. "ivf" visits the nearest cells of a k-means clustering and is
        built in less time and memory.

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
        chosen: Bool[Tensor, " items"] | None,
        hidden: Sequence[Int64[np.ndarray, " _hidden"] | None],
    ) -> Ranking:
        """The `k` best of `items` for each user; -1 with score -inf pads where fewer are found.

        `chosen` marks the rows that may be given (None: all), `hidden` has the rows that each user must not be given.
        Scores are those of the vectors, not of the index.
        """
        exact = None if chosen is None or int(chosen.sum()) > _FEW * len(items) else chosen.nonzero()[:, 0]
        found = [
            self._one(user, items, k, chosen, np.empty(0, np.int64) if gone is None else gone, exact)
            for user, gone in zip(users, hidden, strict=True)
        ]
        rows, scores = zip(*found, strict=True) if found else ((), ())
        return Ranking(np.array(rows, np.int64).reshape(-1, k), np.array(scores, np.float32).reshape(-1, k))

    def _one(
        self,
        user: Float[Tensor, " dim"],
        items: Float[Tensor, "items dim"],
        k: int,
        chosen: Bool[Tensor, " items"] | None,
        hidden: Int64[np.ndarray, " hidden"],
        exact: Int64[Tensor, " few"] | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        if exact is None:
            old = torch.from_numpy(self._approximate(user, k, chosen, hidden))
            new = torch.arange(self.built, len(items))
            candidates = torch.cat([old.sort().values, new if chosen is None else new[chosen[self.built :]]])
        else:
            candidates = exact
        if len(hidden):
            candidates = candidates[~torch.isin(candidates, torch.from_numpy(hidden))]
        scores = items.index_select(0, candidates) @ user  # a third of the time of items[candidates]
        lowest = scores.topk(min(k, len(scores))).values[-1:]
        candidates, scores = candidates[scores >= lowest], scores[scores >= lowest]
        order = scores.argsort(descending=True, stable=True)[:k]  # equal scores: the first row first
        rows, best = np.full(k, -1, np.int64), np.full(k, -np.inf, np.float32)
        rows[: len(order)], best[: len(order)] = candidates[order].numpy(), scores[order].numpy()
        return rows, best

    def _approximate(
        self, user: Float[Tensor, " dim"], k: int, chosen: Bool[Tensor, " items"] | None, hidden: np.ndarray
    ) -> Int64[np.ndarray, " found"]:
        faiss = optional("faiss", extra="faiss", purpose="the index")
        selectors: list[Any] = []
        if chosen is not None:
            bits = np.packbits(chosen[: self.built].numpy(), bitorder="little")
            selectors.append(faiss.IDSelectorBitmap(bits))
        if len(hidden):
            selectors.append(faiss.IDSelectorNot(faiss.IDSelectorBatch(hidden)))
        selector = selectors[0] if len(selectors) == 1 else None
        if len(selectors) == 2:
            selector = faiss.IDSelectorAnd(*selectors)
        query = user.numpy().astype(np.float32)[None, : self.faiss_index.d]  # what is indexed is zero in later columns
        share = 1.0 if chosen is None else float(chosen[: self.built].float().mean())
        effort = math.ceil(self.effort / max(share, _FEW))  # where fewer items count, more must be looked at
        if self.kind == "hnsw":
            parameters = faiss.SearchParametersHNSW(efSearch=max(effort, k), sel=selector)
        else:
            parameters = faiss.SearchParametersIVF(nprobe=min(effort, self.faiss_index.nlist), sel=selector)
        found = self.faiss_index.search(query, min(k, self.built), params=parameters)[1][0]
        return found[found >= 0].astype(np.int64)
