"""`lmm4rec recommend` for users of a file, with filters, the catalog's columns, and unknown users."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lmm4rec.cli import recommend
from lmm4rec.cli.app import main
from lmm4rec.cli.user_files import read_users
from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.core.types import Embeddings
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.sources.table import load
from lmm4rec.distributed.pool import WorkerOptions
from lmm4rec.serving import recommendation_lists
from lmm4rec.serving.answers import NewItem, Recommendation
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.recommendation_lists import ListRequest, RecommendationLists
from pools import LastFirst

Output = Callable[..., tuple[object, str, str]]
USERS, ITEMS = 7, 12


def test_ids_are_separated_by_commas_and_quoted_as_in_csv() -> None:
    assert recommend.ids_of("a, b,,c d ") == ["a", "b", "c d"]
    assert recommend.ids_of('5"x7", "a,b" ,"say ""hi"""') == ['5"x7"', "a,b", 'say "hi"']


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A bundle of a shop of tables: item i has the score i for all users, the price 10 i, and a rank of its own."""
    (tmp_path / "data").mkdir()
    items = {
        "item_id": [f"i{row}" for row in range(ITEMS)],
        "title": [f"[item] {row}" for row in range(ITEMS)],
        "category": ["mugs" if row % 2 else "lamps" for row in range(ITEMS)],
        "price": [10 * row for row in range(ITEMS)],
        "rank": [f"{row}." for row in range(ITEMS)],
    }
    pl.DataFrame(items).write_csv(tmp_path / "data" / "items.csv")
    log = {"user_id": [f"u{row}" for row in range(USERS)], "item_id": ["i11"] * USERS}
    pl.DataFrame(log).write_csv(tmp_path / "data" / "interactions.csv")
    dataset = load(path=tmp_path / "data")
    scorer = Embeddings(torch.ones(USERS, 1), torch.arange(float(ITEMS))[:, None])
    Bundle.of(scorer, dataset, {"model": "by hand"}).save(tmp_path / "shop")
    return tmp_path / "shop"


@pytest.fixture
def call(shop: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Output:
    """Runs the command on the shop; returns the exit status, what was printed, and what to standard error."""

    def command(*arguments: str, stdin: str = "") -> tuple[object, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main(["recommend", str(shop), *arguments])
        printed = capfd.readouterr()
        return ended.value.code, printed.out, " ".join(printed.err.split())

    return command


@pytest.mark.long
def test_a_user_with_nothing_left_is_told_so(call: Output, shop: Path) -> None:
    bundle = Bundle.load(shop)
    bundle.remove_items([f"i{row}" for row in range(10)])
    bundle.save(shop)
    assert "nothing is left" not in call("u1")[2]
    code, _, err = call("u1", "-k", "1", "--only", "i11")
    assert (code, err) == (
        0, "note: user 'u1' has interacted with all items that may be recommended, or disliked them: nothing is left "
        "to recommend (--seen-too shows these too)",
    )  # fmt: skip
    bundle.remove_items(["i10"])
    bundle.save(shop)
    err = call("u1", "-k", "1")[2]
    assert (
        "user 'u1' has interacted with the only item: nothing is left to recommend (--seen-too shows these too)" in err
    )
    assert "i11" in call("u1", "-k", "1", "--seen-too")[1]


def test_users_of_a_file_with_filters_and_columns(call: Output, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text("u3\n\nnobody\r\nu1\nu3\nsomebody\n")
    out = tmp_path / "lists.csv"
    code, text, err = call(
        "--users-file", str(tmp_path / "users.txt"), "-k", "2", "--where", "category=lamps", "--where", "price<=80",
        "--with", "price,rank,title", "-o", str(out),
    )  # fmt: skip
    assert (code, "4 recommendations for 2 users" in text) == (0, True)
    assert "2 of 4 users are unknown and get no list: nobody, somebody" in err
    assert "1 of 6 user ids is repeated" not in err
    assert "1 of 5 user ids is repeated" in err
    frame = pl.read_csv(out)
    assert frame.columns == ["user", "rank", "item", "title", "score", "price", "item_rank"]
    assert frame.rows()[0] == ("u3", 1, "i8", "[item] 8", 8.0, 80.0, 8.0)
    assert frame["user"].to_list() == ["u3", "u3", "u1", "u1"]
    assert frame["item"].to_list() == ["i8", "i6"] * 2


@pytest.mark.long
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_batches_are_one_file(call: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(recommendation_lists, "_BATCH", 3)
    out = tmp_path / f"all{suffix}"
    assert call("--all", "-k", "2", "--with-catalog", "-o", str(out))[0] == 0
    read = {".csv": pl.read_csv, ".jsonl": pl.read_ndjson, ".parquet": pl.read_parquet}[suffix]
    frame = read(out)
    assert frame["user"].to_list() == [f"u{row}" for row in range(USERS) for _ in range(2)]
    assert frame["item"].to_list() == ["i10", "i9"] * USERS  # i11 is in all histories
    assert frame["price"].to_list() == [100, 90] * USERS
    assert {path.name for path in tmp_path.iterdir()} == {"data", "shop", out.name}  # no parts are left


def test_lists_by_a_pool_come_in_the_order_of_the_users(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommendation_lists, "_BATCH", 2)
    monkeypatch.setattr(recommendation_lists, "_JOB", 1)
    request = ListRequest(shop, 2, where=("price<=90",), columns=("category",))
    lists, ids = RecommendationLists(Bundle.load(shop), request), [f"u{row}" for row in range(USERS)]
    alone = pl.concat(lists.for_users(ids))
    with LastFirst(WorkerOptions()) as pool:
        assert pl.concat(lists.for_users(ids, pool)).equals(alone)
    assert alone["user"].to_list() == [f"u{row}" for row in range(USERS) for _ in range(2)]
    assert alone["item"].to_list() == ["i9", "i8"] * USERS


@pytest.mark.slow
def test_worker_processes_write_the_same_file(call: Output, tmp_path: Path) -> None:
    workers = ("--workers", "2")
    for name, more in {"alone": (), "workers": workers, "ranges": (*workers, "--item-ranges", "5")}.items():
        assert call("--all", "-k", "3", "-o", str(tmp_path / f"{name}.csv"), *more)[0] == 0
        assert (tmp_path / "alone.csv").read_bytes() == (tmp_path / f"{name}.csv").read_bytes()


@pytest.mark.parametrize("more", [("-o", "lists.csv"), ("--workers", "2"), ("--workers", "2", "--rules", "r.toml")])
def test_item_ranges_need_workers_and_a_file(call: Output, more: tuple[str, ...]) -> None:
    code, _, err = call("--all", "--item-ranges", "2", *more)
    assert code != 0
    assert "it goes with --out and --workers or --cluster, and not with --rules" in err


def test_standard_input_to_standard_output(call: Output) -> None:
    code, text, err = call("--users-file", "-", "-k", "1", "-o", "-", stdin="u0\nunheard\n")
    assert (code, text) == (0, "user,rank,item,title,score\nu0,1,i10,[item] 10,10.0\n")
    assert err == "note: 1 of 2 users is unknown and gets no list: unheard"


def test_what_is_printed_has_the_columns_too(call: Output) -> None:
    code, text, err = call("u1", "ux", "-k", "1", "--with", "category,price")
    assert code == 0
    for shown in ("for u1", "[item] 10", "10.000", "category", "lamps", "│ 100 "):
        assert shown in text
    assert "note: 1 of 2 users is unknown and gets no list: ux" in err
    code, text, _ = call("--history", "i1", "-k", "1", "--where", "category=mugs")
    assert (code, "i11" in text) == (0, True)


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["u1", "--where", "prise<=5"], "the catalog has no column 'prise'. Did you mean 'price'? Its columns: title,"),
        (["u1", "--where", "cheap"], "'cheap' is no filter"),
        (["u1", "--where", "category=mug"], "no item passes the filters (items that pass each: category=mug: 0)."),
        (["u1", "--with", "colour"], "the catalog has no column 'colour'."),
        (["ux", "uy"], "unknown user 'ux' among 7 users."),
        (["u1", "--users-column", "x"], "--users-column names a column of --users-file"),
        (["u1", "--users-file", "-"], "say for whom"),
        (["--users-file", "nothing.csv"], "nothing.csv is missing"),
        (["--users-file", "nothing.txt"], "nothing.txt is missing"),
        (["--users-file", "-"], "standard input holds no user id"),
        (["u1", "-o", "-.xlsx"], "the suffix says the format"),
    ],
)
def test_errors_are_one_message_and_status_2(call: Output, arguments: list[str], message: str) -> None:
    code, _, err = call(*arguments)
    assert (code, message in err) == (2, True), err


def test_rules_that_leave_no_item_are_an_error(call: Output, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[cheap]\nwhere = ['price<=20']\n")
    status, printed, err = call("u1", "--rules", f"{tmp_path}/r.toml:cheap", "--where", "price>20")
    assert (status, printed) == (2, "")
    assert "r.toml:cheap: only price<=20; only price>20" in " ".join(err.split())


def test_many_lists_are_not_printed(call: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommend, "_PRINTED", 2)
    code, _, err = call("u1", "u2", "u3")
    assert (code, "these are 3 lists: name a file for them with --out" in err) == (2, True)


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("a.csv", "age,user_id\n3,7\n4,8\n", None),
        ("a.csv", "User Id;age\n7;1\n8;1\n".replace(";", ","), None),
        ("a.csv", "7\n8\n", None),  # no header
        ("a.csv", "anything\n7\n8\n", None),
        ("a.tsv", "who\tage\n7\t1\n8\t2\n", "who"),
        ("a.jsonl", '{"who": 7}\n{"who": 8.0}\n', None),
        ("a.ids", "\ufeff7\n 8 \n", None),
        ("a", "7.0\n8\n", None),
    ],
)
def test_files_of_users(tmp_path: Path, name: str, content: str, column: str | None) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_users(tmp_path / name, column, Vocabulary(["7", "8", "9"], kind="user")) == ["7", "8"]


def test_files_of_users_that_cannot_be_read(tmp_path: Path) -> None:
    users = Vocabulary(["7"], kind="user")
    (tmp_path / "two.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(ConfigError, match="has the columns a, b: name the one of the user ids with --users-column"):
        read_users(tmp_path / "two.csv", None, users)
    with pytest.raises(ConfigError, match=r"has no column 'c'.* It has: a, b"):
        read_users(tmp_path / "two.csv", "c", users)
    with pytest.raises(DataError, match="holds no user id"):
        read_users(tmp_path / "empty.txt", None, users)
    with pytest.raises(DataError, match="is a folder"):
        read_users(tmp_path, None, users)


def test_attributes_stay_with_their_items(shop: Path, tmp_path: Path) -> None:
    """Through saving, removing and adding; an added item has no price, so it passes no filter by it."""
    bundle = Bundle.load(shop)
    bundle.remove_items(["i10"])
    best = bundle.recommend(["u0"], 2, where=["price>=80"])["u0"]
    assert best == [Recommendation("i9", "[item] 9", 9.0), Recommendation("i8", "[item] 8", 8.0)]
    bundle.save(tmp_path / "again")
    again = Bundle.load(tmp_path / "again")
    assert again.recommend(["u0"], 2, where=["price>=80"])["u0"] == best
    table = again.table(["price"])
    assert table.columns == ["item", "price"]
    assert table["item"].to_list() == [f"i{row}" for row in range(ITEMS) if row != 10]
    assert np.array_equal(table["price"], [10.0 * row for row in range(ITEMS) if row != 10])


def test_added_items_pass_filters_on_texts(shop: Path) -> None:
    view = Bundle.load(shop)._state.catalog
    item = NewItem("new", {"title": "new one", "category": "mugs", "rank": ""})
    view = view.with_added([type(view.entry(0))(item.id, "new one", item.fields, None)])
    assert view.columns.height == ITEMS + 1
    for text, passes in (("category=mugs", True), ("title~NEW", True), ("price>=0", False)):
        mask = view.candidates(None, [text])
        assert mask is not None
        assert bool(mask[-1]) == passes
