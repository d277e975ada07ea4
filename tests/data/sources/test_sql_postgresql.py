"""The source sql on a PostgreSQL server that the test starts, also one that goes away in the middle."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from lmm4rec.core.errors import DataError
from lmm4rec.data.sources import sql, table
from lmm4rec.experiments.run import run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("initdb") is None, reason="no PostgreSQL server here: initdb is not on the path"),
]
LOG = "SELECT buyer AS user_id, sku AS item_id, bought AS timestamp, kind FROM orders"
ITEMS = "SELECT sku AS item_id, name AS title, price FROM products"
ORDERS = [(user, f"00{(user + step) % 7}", datetime(2024, 1, step + 1, 10), "skip" if step == 4 else "bought")
          for user in range(9) for step in range(6)]  # fmt: skip


class Server:
    """A server in a folder of its own, as a user who is not root: PostgreSQL refuses root."""

    def __init__(self, folder: Path) -> None:
        self.programs, self.data = Path(shutil.which("initdb") or "").resolve().parent, folder / "data"
        self.user = pwd.getpwnam("postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name)
        self.log = folder / "log"
        folder.chmod(0o755)
        os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        self._call("initdb", "-D", self.data, "-A", "trust", "-U", "shop", "--no-sync", "-E", "UTF8")
        self.start()

    def _call(self, program: str, *arguments: object) -> None:
        as_user: dict[str, Any] = {"user": self.user.pw_uid, "group": self.user.pw_gid} if os.getuid() == 0 else {}
        subprocess.run(
            [self.programs / program, *map(str, arguments)], check=True, capture_output=True, cwd="/", **as_user
        )

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self.data} -c fsync=off"
        self._call("pg_ctl", "-D", self.data, "-w", "-l", self.log, "-o", options, "start")

    def stop(self) -> None:
        self._call("pg_ctl", "-D", self.data, "-w", "-m", "immediate", "stop")

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg://shop:secret@/postgres?host={self.data}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="lmm4rec-postgresql-"))
    server = Server(folder)
    engine = sqlalchemy.create_engine(server.uri)
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE orders (buyer INTEGER, sku TEXT, bought TIMESTAMP, kind TEXT)",
            "CREATE TABLE products (sku TEXT, name TEXT, price DECIMAL(10, 2))",
            "INSERT INTO products SELECT '00' || n, 'Chair ' || n, 9.90 + n FROM generate_series(0, 6) n",
        ):
            connection.execute(sqlalchemy.text(statement))
        rows = [dict(zip("bstk", row, strict=True)) for row in ORDERS]
        connection.execute(sqlalchemy.text("INSERT INTO orders VALUES (:b, :s, :t, :k)"), rows)
    engine.dispose()
    yield server
    server.stop()
    shutil.rmtree(folder)


def test_the_data_is_that_of_the_same_tables_in_files(server: Server, tmp_path: Path) -> None:
    lines = [f"{user},{item},{at.replace(tzinfo=UTC).isoformat()},{kind}" for user, item, at, kind in ORDERS]
    (tmp_path / "interactions.csv").write_text("\n".join(["user_id,item_id,timestamp,kind", *lines]))
    (tmp_path / "items.csv").write_text(
        "item_id,title,price\n" + "".join(f"00{n},Chair {n},{n + 9.9}\n" for n in range(7))
    )
    found, expected = sql.load(uri=server.uri, interactions=LOG, items=ITEMS), table.load(path=tmp_path)
    assert list(found.users) == list(expected.users)
    assert list(found.items) == list(expected.items)
    assert found.interactions.fingerprint == expected.interactions.fingerprint
    assert found.interactions.timestamps is not None
    assert expected.interactions.timestamps is not None
    assert found.interactions.timestamps.tolist() == expected.interactions.timestamps.tolist()
    assert found.negatives.counts == expected.negatives.counts == {"skip": 9}
    assert found.catalog.attributes["price"].to_list() == pytest.approx(expected.catalog.attributes["price"].to_list())


def test_since_is_a_parameter_of_the_queries(server: Server) -> None:
    newer = sql.load(uri=server.uri, interactions=f"{LOG} WHERE bought >= :since", since="2024-01-04")
    assert (len(newer.interactions), newer.negatives.counts) == (18, {"skip": 9})
    with pytest.raises(DataError, match="the query of the interactions fails in 'postgres': relation \"order\""):
        sql.load(uri=server.uri, interactions='SELECT * FROM "order"')


def conf(server: Server, log: str = LOG) -> dict[str, Any]:
    return {
        "data": {"name": "sql", "uri": server.uri, "interactions": log, "items": ITEMS},
        "split": {"method": "leave_last_out"},
        "recommender": {"name": "popular"},
    }


def test_a_server_that_goes_away_in_the_middle_is_named_and_leaves_no_run(server: Server, tmp_path: Path) -> None:
    slow = LOG.replace("kind FROM orders", "kind FROM orders, pg_sleep(20)")

    def stop_it() -> None:
        engine = sqlalchemy.create_engine(server.uri, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            asked = sqlalchemy.text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%, pg_sleep(20)'")
            for _ in range(500):  # ten seconds
                if connection.execute(asked).scalar():
                    break
                time.sleep(0.02)
        engine.dispose()
        server.stop()

    thread = threading.Thread(target=stop_it)
    thread.start()
    try:
        with pytest.raises(DataError, match="'postgres' went away while the interactions were read") as raised:
            run(conf(server, slow), out=tmp_path / "run")
    finally:
        thread.join()
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match=r"the database postgresql.* cannot be read") as refused:
        run(conf(server), out=tmp_path / "run")
    for error in (raised, refused):
        assert "secret" not in str(error.value)
        assert "\n" not in str(error.value)
    server.start()
    assert run(conf(server), out=tmp_path / "run").measured.data.users == 9
