"""Small files in the layouts of the three editions, written by hand after the published ones."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

USERS = ("A1", "A2", "A3")
ITEMS = ("B1", "B2", "B3")


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    """A file of lines, gzip where its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def review_2014(user: str, item: str, rating: float, moment: int) -> str:
    """As in `reviews_Baby_5.json.gz`; 2018 has these fields too, and more."""
    return json.dumps(
        {
            "reviewerID": user,
            "asin": item,
            "reviewerName": 'J. "Q" Public',
            "helpful": [0, 0],
            "reviewText": "Nice\tand — soft 👶",
            "overall": rating,
            "summary": "Nice",
            "unixReviewTime": moment,
            "reviewTime": "07 16, 2013",
        }
    )


def review_2023(user: str, item: str, rating: float, moment_ms: int) -> str:
    """As in `All_Beauty.jsonl.gz`."""
    return json.dumps(
        {
            "rating": rating,
            "title": "Such a lovely scent",
            "text": "This spray is nice.",
            "images": [],
            "asin": f"{item}X",
            "parent_asin": item,
            "user_id": user,
            "timestamp": moment_ms,
            "helpful_vote": 0,
            "verified_purchase": True,
        }
    )


META_2014: tuple[dict[str, Any], ...] = (
    {
        "asin": "B1",
        "description": "Soft &amp; warm,\nfor a baby's cot.",
        "title": 'Baby\'s "soft" blanket',
        "price": 12.99,
        "imUrl": "http://ecx.images-amazon.com/images/I/1.jpg",
        "related": {"also_bought": ["B2", "B3"], "bought_together": ["B9"]},
        "salesRank": {"Baby": 7},
        "brand": "Cozy",
        "categories": [["Baby", "Nursery", "Bedding"], ["Baby", "Gifts"]],
    },
    {"asin": "B2", "title": "Bottle", "imUrl": "http://ecx.images-amazon.com/images/I/2.png", "categories": [["Baby"]]},
    {"asin": "B9", "title": "Never reviewed", "imUrl": "http://ecx.images-amazon.com/images/I/9.jpg"},
)

META_2018: tuple[dict[str, Any], ...] = (
    {
        "category": ["Appliances", "Parts", "</span></span></span>", "Junk"],
        "tech1": "",
        "description": ["<b>Sharp</b> blade.", "", "Fits <i>all</i> mixers &lt;5 l"],
        "title": "Blade",
        "also_buy": [],
        "brand": "by Mixmaster",
        "feature": ["Steel", "Dishwasher safe"],
        "rank": [">#1 in Appliances"],
        "main_cat": "Appliances",
        "price": "$4.99",
        "asin": "B1",
        "imageURL": ["https://images-na.ssl-images-amazon.com/images/I/1._SS40_.jpg"],
        "imageURLHighRes": ["https://images-na.ssl-images-amazon.com/images/I/1.jpg"],
    },
    {
        "asin": "B2",
        "title": "var aPageStart = (new Date()).getTime();",
        "category": [],
        "description": [],
        "brand": "",
        "imageURL": [],
        "imageURLHighRes": [],
        "feature": [],
    },
    {"asin": "B1", "title": "Blade, listed twice"},
    {"asin": "B3", "title": "Filter", "image": ["https://images-na.ssl-images-amazon.com/images/I/3._SS40_.jpg"]},
)


def image_2023(variant: str, number: str, hi_res: bool = True) -> dict[str, Any]:
    """One of an item's images."""
    base = f"https://m.media-amazon.com/images/I/{number}"
    return {
        "thumb": f"{base}._SS40_.jpg",
        "large": f"{base}.jpg",
        "variant": variant,
        "hi_res": f"{base}._SL1500_.jpg" if hi_res else None,
    }


META_2023: tuple[dict[str, Any], ...] = (
    {
        "main_category": "All Beauty",
        "title": "Lurrose 100Pcs",
        "average_rating": 3.7,
        "rating_number": 35,
        "features": ["Fake nails", "100 pieces"],
        "description": ["Description", "For <br>women"],
        "price": 6.99,
        "images": [image_2023("PT01", "11"), image_2023("MAIN", "10", hi_res=False)],
        "videos": [],
        "store": "Lurrose",
        "categories": [],
        "details": {"Color": "As Shown"},
        "parent_asin": "B1",
        "bought_together": None,
    },
    {
        "main_category": "All Beauty",
        "title": "Comb",
        "features": [],
        "description": [],
        "price": None,
        "images": [image_2023("MAIN", "20")],
        "videos": [],
        "store": None,
        "categories": ["Beauty", "Combs"],
        "details": {},
        "parent_asin": "B2",
        "bought_together": None,
    },
    {"title": "Brush", "images": [], "store": "Brushy", "categories": ["Beauty"], "parent_asin": "B3"},
)

LOG = (("A1", "B1", 5.0, 1_400_000_000), ("A2", "B2", 3.0, 1_400_000_100), ("A1", "B3", 1.0, 1_400_000_200))


def write_2014(folder: Path) -> Path:
    write_lines(folder / "reviews_Baby_5.json.gz", [review_2014(*row) for row in LOG])
    write_lines(folder / "meta_Baby.json.gz", [repr(meta) for meta in META_2014])  # Python literals, as published
    return folder


def write_2018(folder: Path) -> Path:
    write_lines(folder / "Appliances_5.json.gz", [review_2014(*row) for row in LOG])
    write_lines(folder / "meta_Appliances.json.gz", [json.dumps(meta) for meta in META_2018])
    return folder


def write_2023(folder: Path) -> Path:
    reviews = [review_2023(user, item, rating, moment * 1000 + 7) for user, item, rating, moment in LOG]
    write_lines(folder / "All_Beauty.jsonl.gz", reviews)
    write_lines(folder / "meta_All_Beauty.jsonl.gz", [json.dumps(meta) for meta in META_2023])
    return folder
