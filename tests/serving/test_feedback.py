"""The file of posted interactions: each counts once, survives a kill, is seen by other processes, and can be erased."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lmm4rec.core.errors import CheckpointError
from lmm4rec.data.interactions import Interactions
from lmm4rec.experiments.night.night_data import is_later
from lmm4rec.serving.feedback import FeedbackStore, read_feedback
from lmm4rec.serving.posted_interactions import LatestInteractions, PostedInteraction


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    store = FeedbackStore(tmp_path / "interactions.sqlite")
    yield store
    store.close()


def one(user: str, item: str, kind: str = "like", time: float = 1.0, id_: str = "") -> PostedInteraction:
    return PostedInteraction(user, item, kind, time, id_ or f"{user} {item} {time}")


def test_a_repeated_id_counts_once_and_the_first_stays(store: FeedbackStore) -> None:
    assert store.add([one("u", "a", id_="1"), one("u", "b", id_="2"), one("u", "c", id_="1")]) == [True, True, False]
    assert store.add([one("u", "d", id_="2")]) == [False]
    assert [(place, x.item) for place, x in store.since(0)] == [(1, "a"), (2, "b")]
    assert [x.item for _, x in store.since(1)] == ["b"]


def test_another_connection_sees_what_was_written(store: FeedbackStore) -> None:
    other = FeedbackStore(store.path)
    assert other.changed()
    assert not other.changed()
    store.add([one("u", "a")])
    assert other.changed()
    assert not other.changed()
    assert [x for _, x in other.since(0)] == [one("u", "a")]


def test_a_failed_group_leaves_nothing(store: FeedbackStore) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        store.add([one("u", "a"), PostedInteraction("u", None, "like", 1.0, "x")])  # type: ignore[arg-type]
    assert len(store) == 0
    assert store.add([one("u", "a")]) == [True]


@pytest.mark.long
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from lmm4rec.data.interactions import Interactions
from lmm4rec.experiments.night.night_data import is_later
from lmm4rec.serving.feedback import FeedbackStore
from lmm4rec.serving.posted_interactions import PostedInteraction
store = FeedbackStore(Path({str(tmp_path / "i.sqlite")!r}))
for n in range(100_000):
    for item, id_ in ((str(n), str(n)), ("x", f"x{{n}}")):
        store.add([PostedInteraction("u", item, "like", 1.0, id_)])
    assert store.retract(f"x{{n}}") == "now"
    print(n, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    store = FeedbackStore(tmp_path / "i.sqlite")
    assert [x.item for _, x in store.since(0)][: len(acknowledged)] == list(map(str, acknowledged))
    assert store.add(one("u", "x", id_=f"x{n}") for n in acknowledged) == [False] * len(acknowledged)  # retracted
    store.close()


def test_a_retracted_interaction_is_gone_for_good(store: FeedbackStore) -> None:
    store.add([one("u", "a", id_="1"), one("v", "a", id_="2"), one("u", "b", id_="3")])
    other = FeedbackStore(store.path)
    assert [store.retract(id_) for id_ in ("1", "1", "4")] == ["now", "before", "unknown"]
    assert store.add([one("u", "a", id_="1"), one("u", "a", id_="4")]) == [False, True]
    assert [x.id for _, x in other.since(0)] == ["2", "3", "4"]
    assert [x.id for x in other.of_user("u")] == ["3", "4"]
    assert other.retractions() == [(1, "u")]
    assert other.retractions(1) == []
    other.close()


def test_a_file_of_before_gets_the_table_of_retractions(tmp_path: Path) -> None:
    FeedbackStore(tmp_path / "i.sqlite").close()
    with sqlite3.connect(tmp_path / "i.sqlite") as file:
        file.execute("DROP TABLE retracted")
    file.close()
    store = FeedbackStore(tmp_path / "i.sqlite")
    assert store.add([one("u", "a", id_="1")]) == [True]
    assert store.retract("1") == "now"
    store.close()


def test_an_erased_user_is_nowhere_in_the_files(store: FeedbackStore) -> None:
    store.add([one("a-name-to-be-erased", "a"), one("v", "b"), one("a-name-to-be-erased", "b", id_="1")])
    store.retract("1")
    assert store.erase("a-name-to-be-erased") == 1
    assert [x.user for _, x in store.since(0)] == ["v"]
    for file in store.path.parent.iterdir():
        assert b"a-name-to-be-erased" not in file.read_bytes()
    assert store.erased(["a-name-to-be-erased", "v"]).keys() == {"a-name-to-be-erased"}
    assert store.erasures(after := store.erasures()[-1].place) == []
    assert after == 1


def test_erasures_are_found_by_the_ids_that_are_asked_for(store: FeedbackStore) -> None:
    before = time.time()
    store.erase("u")
    store.erase("w")
    store.erase("u")
    erased = store.erased(["u", "v"])
    assert list(erased) == ["u"]
    assert before <= erased["u"] <= time.time()
    assert erased["u"] == store.erasures()[-1].time  # the last one
    assert store.erased(["u", "w"], after=2).keys() == {"u"}
    other = FeedbackStore(store.path)
    assert other.erased(["u"]) == erased
    other.close()


def test_a_log_is_left_with_what_is_later_than_an_erasure() -> None:
    users, items = np.array([0, 0, 1], np.int32), np.array([0, 1, 0], np.int32)
    until = np.array([100.5, -np.inf])  # the first user was erased
    timed = Interactions(users, items, timestamps=np.array([100, 101, 99], np.int64))
    assert is_later(timed, until).tolist() == [False, True, True]
    assert is_later(Interactions(users, items), until).tolist() == [False, False, True]


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_writers_take_turns(store: FeedbackStore) -> None:
    import fcntl

    with store.path.with_name(f"{store.path.name}.turn").open("rb") as turn:
        with store.transaction(), pytest.raises(BlockingIOError):
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_interactions_are_read_as_a_table(store: FeedbackStore) -> None:
    store.add([one("u", "a", "bought", 12.7), one("u", "b", "dislike", 13.0)])
    table = read_feedback(store.path)
    assert table.rows() == [("u", "a", 12, "bought"), ("u", "b", 13, "dislike")]
    assert table.columns == ["user", "item", "timestamp", "kind"]
    assert read_feedback(store.path.parent / "none.sqlite").is_empty()


def test_other_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text.sqlite"
    text.write_text("no database, but long enough to be taken for one" * 100)
    with pytest.raises(CheckpointError, match="is not a file of interactions"):
        FeedbackStore(text)
    assert text.read_text().startswith("no database")
    with sqlite3.connect(tmp_path / "other.sqlite") as file:
        file.execute("CREATE TABLE interactions (name TEXT)")
    file.close()
    before = (tmp_path / "other.sqlite").read_bytes()
    with pytest.raises(CheckpointError, match="of another kind"):
        FeedbackStore(tmp_path / "other.sqlite")
    assert (tmp_path / "other.sqlite").read_bytes() == before


def test_of_two_interactions_with_an_item_the_latest_counts() -> None:
    latest = LatestInteractions()
    latest.add([one("u", "a", "like", 5.0), one("u", "b", "like", 2.0), one("u", "a", "dislike", 3.0)])
    assert [(x.item, x.kind) for x in latest.of("u")] == [("a", "like"), ("b", "like")]
    latest.add([one("u", "a", "dislike", 5.0)])
    assert [(x.item, x.kind) for x in latest.of("u")] == [("b", "like"), ("a", "dislike")]
    latest.forget(["u"])
    assert latest.of("u") == []
    assert latest.users() == []
