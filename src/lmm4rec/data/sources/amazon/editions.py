"""The three editions of the Amazon review data: names of files and fields, and URLs.

2014: He and McAuley, WWW 2016 (arXiv 1602.01585); 2018: Ni et al., EMNLP 2019; 2023: Hou et al., 2024 (arXiv
2403.03952).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from lmm4rec.core.errors import DataError

EditionName: TypeAlias = Literal["2014", "2018", "2023"]


@dataclass(frozen=True)
class Edition:
    """One edition: names of files (`{}` is the category) and of fields."""

    name: EditionName
    review_stems: tuple[str, ...]  # the first file found is read
    ending: str  # of the published files
    user: str
    item: str
    rating: str
    timestamp: str
    per_second: int  # units of its timestamps in a second
    reviews_url: str
    meta_url: str

    meta_stem: str = "meta_{}"

    def published(self, category: str) -> dict[str, str]:
        """The name of each published file -> its address."""
        review, meta = (stem.format(category) + self.ending for stem in (self.review_stems[0], self.meta_stem))
        return {review: self.reviews_url + review, meta: self.meta_url + meta}

    def find_reviews(self, folder: Path, category: str) -> list[Path]:
        """The file of reviews, or its Parquet parts.

        Raises:
            DataError: there is none.
        """
        return _find(folder, [stem.format(category) for stem in self.review_stems], self.ending)

    def find_meta(self, folder: Path, category: str) -> list[Path]:
        """The file of metadata, or its Parquet parts.

        Raises:
            DataError: there is none.
        """
        return _find(folder, [self.meta_stem.format(category), f"raw_meta_{category}"], self.ending)


_OLD_FIELDS: dict[str, Any] = {
    "ending": ".json.gz", "user": "reviewerID", "item": "asin", "rating": "overall", "timestamp": "unixReviewTime",
    "per_second": 1,
}  # fmt: skip
EDITIONS: Mapping[str, Edition] = {
    "2014": Edition(
        name="2014",
        review_stems=("reviews_{}_5", "reviews_{}"),
        reviews_url="https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/",
        meta_url="https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/",
        **_OLD_FIELDS,
    ),
    "2018": Edition(
        name="2018",
        review_stems=("{}_5", "{}"),
        reviews_url="https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/categoryFilesSmall/",
        meta_url="https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/metaFiles2/",
        **_OLD_FIELDS,
    ),
    "2023": Edition(
        name="2023",
        review_stems=("{}", "raw_review_{}"),
        ending=".jsonl.gz",
        user="user_id",
        item="parent_asin",  # the item of the metadata; `asin` is one color or size of it
        rating="rating",
        timestamp="timestamp",
        per_second=1000,
        reviews_url="https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw/review_categories/",
        meta_url="https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw/meta_categories/",
    ),
}

_ENDINGS = (".json.gz", ".jsonl.gz", ".json", ".jsonl", ".parquet")


def _find(folder: Path, stems: list[str], published: str) -> list[Path]:
    for stem in stems:
        for ending in _ENDINGS:
            if (folder / (stem + ending)).is_file():
                return [folder / (stem + ending)]
        parts = sorted((folder / stem).glob("*.parquet"))
        if parts:
            return parts
    inside = ", ".join(sorted(file.name for file in folder.iterdir())[:20]) if folder.is_dir() else ""
    raise DataError(
        f"{folder} has no {stems[0]}{published} (nor {', '.join(_ENDINGS)}); "
        f"`lmm4rec data download` fetches it. It holds {inside or 'nothing'}"
    )
