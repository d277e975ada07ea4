"""The source sql on SQLite and DuckDB: the same data as from files, `since`, and errors without passwords."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from lmm4rec.core.errors import ConfigError, DataError, LMM4RecError, MissingExtraError
from lmm4rec.data.sources import sql, table
from lmm4rec.experiments.run import run

LOG = "SELECT buyer AS user_id, sku AS item_id, bought AS timestamp FROM orders"
ITEMS = "SELECT sku AS item_id, name AS title, price FROM products"
ORDERS = [(user, f"00{(user + step) % 7}", datetime(2024, 1, step + 1, 10)) for user in range(9) for step in range(5)]
PRODUCTS = [(f"00{item}", f"Chair {item}", Decimal("9.90") + item) for item in range(7)]


@pytest.fixture(params=["sqlite", "duckdb"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A shop's database."""
    address = f"{request.param}:///{tmp_path / 'shop.db'}"
    engine = sqlalchemy.create_engine(address)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE orders (buyer INTEGER, sku TEXT, bought TIMESTAMP)"))
        connection.execute(sqlalchemy.text("CREATE TABLE products (sku TEXT, name TEXT, price DECIMAL(10, 2))"))
        text = request.param == "sqlite"  # which keeps times as text and numbers as floats
        for row in ORDERS:
            values = {"u": row[0], "i": row[1], "t": str(row[2]) if text else row[2]}
            connection.execute(sqlalchemy.text("INSERT INTO orders VALUES (:u, :i, :t)"), values)
        for item, name, price in PRODUCTS:
            values = {"i": item, "n": name, "p": float(price) if text else price}
            connection.execute(sqlalchemy.text("INSERT INTO products VALUES (:i, :n, :p)"), values)
    engine.dispose()
    return address


@pytest.mark.long
def test_the_data_is_that_of_the_same_tables_in_files(uri: str, tmp_path: Path) -> None:
    lines = [f"{user},{item},{at.replace(tzinfo=UTC).isoformat()}" for user, item, at in ORDERS]
    (tmp_path / "interactions.csv").write_text("\n".join(["user_id,item_id,timestamp", *lines]))
    lines = [f"{item},{name},{price}" for item, name, price in PRODUCTS]
    (tmp_path / "items.csv").write_text("\n".join(["item_id,title,price", *lines]))
    found, expected = sql.load(uri=uri, interactions=LOG, items=ITEMS), table.load(path=tmp_path)
    assert found.name == "shop"
    assert list(found.items) == list(expected.items) == [item for item, *_ in PRODUCTS]
    assert list(found.users) == list(expected.users)
    assert found.interactions.fingerprint == expected.interactions.fingerprint
    assert found.interactions.timestamps is not None
    assert expected.interactions.timestamps is not None
    assert found.interactions.timestamps.tolist() == expected.interactions.timestamps.tolist()
    assert [item.fields["title"] for item in found.catalog] == [name for _, name, _ in PRODUCTS]


@pytest.mark.long
def test_since_is_a_parameter_of_the_queries(uri: str) -> None:
    query = f"{LOG} WHERE bought >= :since"
    newer = sql.load(uri=uri, interactions=query, items=ITEMS, since="2024-01-04 00:00:00")
    assert len(newer.interactions) == 18
    with pytest.raises(ConfigError, match=r"the interactions has :since, and data\.since has no value"):
        sql.load(uri=uri, interactions=query)
    with pytest.raises(DataError, match="gives no row in 'shop' since 2030-01-01"):
        sql.load(uri=uri, interactions=query, since="2030-01-01")
    hostile = sql.load(uri=uri, interactions=query, since="2024-01-04'; DROP TABLE orders; --"[:10])
    assert len(hostile.interactions) == 18


@pytest.mark.long
def test_a_conf_runs_on_a_database(uri: str, tmp_path: Path) -> None:
    conf = {
        "data": {"name": "sql", "uri": uri, "interactions": LOG, "items": ITEMS},
        "split": {"method": "leave_last_out"},
        "recommender": {"name": "popular"},
    }
    assert run(conf, out=tmp_path / "run").measured.data.users == 9


@pytest.mark.parametrize(
    ("keys", "kind", "words"),
    [
        ({"uri": "sqlite:////nowhere/shop.db"}, DataError, "there is no database /nowhere/shop.db"),
        ({"uri": "shop.db"}, ConfigError, "'shop.db' is no address of a database"),
        ({"uri": "postgresql+nodriver://ann:secret@host/shop"}, ConfigError, "ann:\\*\\*\\*@host/shop' is no address"),
        ({"uri": "postgresql+pg8000://ann:secret@host/shop"}, MissingExtraError, "needs the driver 'pg8000'"),
        ({"uri": "duckdb:///${SHOP_DB}"}, ConfigError, "environment variable SHOP_DB, which is not set"),
        ({"interactions": "SELECT * FROM order"}, DataError, "the query of the interactions fails in 'shop'"),
        ({"interactions": "SELECT buyer FROM orders"}, DataError, "no column 'user_id'"),
        (
            {"interactions": "SELECT buyer AS user_id, sku AS item_id, sku AS item_id FROM orders"},
            DataError,
            "the query of the interactions gives more than one column 'item_id' in 'shop': leave the others out",
        ),
        ({"items": "SELECT sku FROM products WHERE price > 1000"}, DataError, "the items gives no row in 'shop'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_without_a_password(
    tmp_path: Path, keys: dict[str, Any], kind: type[LMM4RecError], words: str
) -> None:
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.execute("CREATE TABLE orders (buyer, sku, bought)")
    connection.execute("CREATE TABLE products (sku, price)")
    connection.execute("INSERT INTO orders VALUES (1, 'a', 1700000000)")
    connection.commit()
    connection.close()
    known = {"uri": f"sqlite:///{tmp_path / 'shop.db'}", "interactions": LOG}
    with pytest.raises(kind, match=words) as raised:
        sql.load(**{**known, **keys})
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def _shop_with_buyers(path: Path, kind: str, buyers: list[Any]) -> str:
    """The address of a SQLite database whose buyers' ids are in a column of this type."""
    connection = sqlite3.connect(path)
    connection.execute(f"CREATE TABLE orders (buyer {kind}, sku, bought)")
    connection.executemany("INSERT INTO orders VALUES (?, 'a', 1700000000)", [(buyer,) for buyer in buyers])
    connection.commit()
    connection.close()
    return f"sqlite:///{path}"


@pytest.mark.parametrize("fraction", [0, 2])
@pytest.mark.parametrize("kind", ["", "INTEGER", "NUMERIC"])
def test_a_fraction_among_long_ids_costs_them_no_digit(tmp_path: Path, kind: str, fraction: int) -> None:
    """2^53 + 1 is the first whole number that a float cannot hold; SQLite keeps it beside fractions."""
    ids: list[float] = [2**53 + 1, 2**53]
    ids.insert(fraction, 1.5)
    uri = _shop_with_buyers(tmp_path / "shop.db", kind, ids)
    assert list(sql.load(uri=uri, interactions=LOG).users) == [str(one) for one in ids]


@pytest.mark.parametrize(("kind", "buyers"), [("REAL", [7, 2**53 + 1, 8]), ("", [2**53 + 1, 2.0**53, 1.5])])
def test_long_ids_that_a_database_keeps_as_floats_are_refused(tmp_path: Path, kind: str, buyers: list[float]) -> None:
    uri = _shop_with_buyers(tmp_path / "shop.db", kind, buyers)
    words = r"the interactions in 'shop' gives user_id as a floating-point number in row 2 \(9007199254740992\.0\)"
    with pytest.raises(DataError, match=words):
        sql.load(uri=uri, interactions=LOG)
    short = _shop_with_buyers(tmp_path / "short.db", "REAL", [7, 2**53 - 1, 1.5])
    assert list(sql.load(uri=short, interactions=LOG).users) == ["7", str(2**53 - 1), "1.5"]


def test_binary_values_among_others_are_refused(tmp_path: Path) -> None:
    uri = _shop_with_buyers(tmp_path / "shop.db", "", [7, b"\x07"])
    with pytest.raises(DataError, match=r"user_id as a binary value in row 2 .* CAST\(\.\.\. AS TEXT\) AS user_id"):
        sql.load(uri=uri, interactions=LOG)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "shop.db").write_text("user_id,item_id\n" * 100)
    with pytest.raises(DataError, match="file is not a database"):
        sql.load(uri=f"sqlite:///{tmp_path / 'shop.db'}", interactions=LOG)


def test_a_database_that_fails_in_the_middle_is_named_and_leaves_no_run(tmp_path: Path) -> None:
    """The first rows are there, later pages of the file are overwritten; then a writer holds the database."""
    path = tmp_path / "shop.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE orders (buyer, sku, bought)")
    rows = [(f"user {i}", f"item {i % 50}" + "x" * 200, 1_700_000_000 + i) for i in range(2000)]
    connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
    connection.commit()
    whole = path.read_bytes()
    conf = {
        "data": {"name": "sql", "uri": f"sqlite:///{path}?timeout=0.05", "interactions": LOG},
        "recommender": {"name": "popular"},
    }
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DataError, match="the query of the interactions fails in 'shop': database is locked"):
        run(conf, out=tmp_path / "run")
    connection.close()
    path.write_bytes(whole[: len(whole) // 2] + b"\xff" * (len(whole) // 4) + whole[-(len(whole) // 4) :])
    with pytest.raises(DataError, match="the query of the interactions fails in 'shop': database disk image is malf"):
        run(conf, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    path.write_bytes(whole)
    assert len(sql.load(uri=conf["data"]["uri"], interactions=LOG).interactions) == 2000
