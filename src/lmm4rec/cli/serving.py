"""What the commands on a finished run do: recommend, similar, search, explain, export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
from rich.table import Table

from lmm4rec.cli.commands import console
from lmm4rec.core.errors import ConfigError
from lmm4rec.core.files import atomic
from lmm4rec.core.progress import progress
from lmm4rec.data.images import ImageFile
from lmm4rec.experiments.build.bundle import export
from lmm4rec.serving.answers import Recommendation
from lmm4rec.serving.bundle import Bundle

_BATCH = 1024  # users ranked between two steps of the bar


def recommend_items(
    run: Path,
    users: Sequence[str],
    k: int,
    *,
    everyone: bool = False,
    history: Sequence[str] = (),
    only: Sequence[str] = (),
    out: Path | None = None,
    seen_too: bool = False,
) -> None:
    """`lmm4rec recommend`."""
    if sum([bool(users), everyone, bool(history)]) != 1:
        raise ConfigError("say for whom: user ids, --all, or --history ITEM,ITEM for a person the model has never seen")
    bundle = Bundle.load(run)
    within = only or None
    if history:
        found = {"this history": bundle.recommend_for(history, k, only=within)}
        _give(found, out, who="person")
        return
    if out is None and everyone:
        raise ConfigError(f"--all is {len(bundle.users):,} lists: name a Parquet file for them with --out")
    asked = list(bundle.users) if everyone else list(users)
    lists: dict[str, list[Recommendation]] = {}
    with progress(total=len(asked), description="recommending", unit="user", after_s=0.5) as bar:
        for start in range(0, len(asked), _BATCH):
            some = asked[start : start + _BATCH]
            lists |= bundle.recommend(some, k, exclude_seen=not seen_too, only=within)
            bar.update(len(some))
    _give(lists, out, who="user")


def similar_items(run: Path, items: Sequence[str], k: int) -> None:
    """`lmm4rec similar`."""
    for item, found in Bundle.load(run).similar(items, k).items():
        console.print(_table(found, f"like {item}"))


def search_items(run: Path, words: str | None, image: Path | None, k: int, user: str | None) -> None:
    """`lmm4rec search`."""
    if words is None and image is None:
        raise ConfigError("say what to look for: words in quotes, --image FILE, or both")
    opened = None if image is None else ImageFile(image)
    found = Bundle.load(run).search(words, opened, k, for_user=user)
    asked = " and ".join(part for part in (words and f'"{words}"', image and image.name) if part)
    console.print(_table(found, asked + (f" for {user}" if user else "")))


def explain_item(run: Path, user: str, item: str) -> None:
    """`lmm4rec explain`."""
    bundle = Bundle.load(run)
    score, parts, nearest = bundle.explain(user, item)
    console.print(f"{bundle.title(item)} ({item}) has the score {score:.4f} for {user}", markup=False)
    table = Table("part", "gives", "", title="the score by parts", title_justify="left")
    table.columns[1].justify = "right"
    widest = max(map(abs, parts.values()), default=0.0) or 1.0
    for part, gives in parts.items():
        table.add_row(part, f"{gives:+.4f}", ("█" if gives >= 0 else "░") * round(20 * abs(gives) / widest))
    console.print(table)
    console.print(_table(nearest, f"what {user} has that is most like it", score="similarity"))


def export_bundle(run: Path, out: Path, *, copy_encoder: bool, thumbnails: int) -> None:
    """`lmm4rec export`."""
    bundle = export(run, out, copy_encoder=copy_encoder, thumbnails=thumbnails)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    console.print(f"wrote {out}: {len(bundle.users):,} users, {len(bundle.items):,} items, {size / 2**20:.1f} MiB")


def _give(lists: Mapping[str, list[Recommendation]], out: Path | None, *, who: str) -> None:
    if out is None:
        for user, found in lists.items():
            console.print(_table(found, f"for {user}"))
        return
    rows = [(user, rank, *one) for user, found in lists.items() for rank, one in enumerate(found, start=1)]
    schema = {who: pl.String, "rank": pl.Int32, "item": pl.String, "title": pl.String, "score": pl.Float64}
    with atomic(out) as beside:
        pl.DataFrame(rows, schema=schema, orient="row").write_parquet(beside)
    console.print(f"wrote {out}: {len(rows):,} recommendations for {len(lists):,} {who}s", soft_wrap=True)


def _table(found: Sequence[Recommendation], title: str, *, score: str = "score") -> Table:
    table = Table("", "item", "title", score, title=title.replace("[", r"\["), title_justify="left")
    for rank, one in enumerate(found, start=1):
        table.add_row(str(rank), _plain(one.item), _plain(one.title), f"{one.score:.3f}")
    return table


def _plain(text: str) -> str:
    """The text as it is: titles are no markup."""
    return text.replace("[", r"\[")
