"""The night job's log and the comparison of two bundles over HTTP."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from shops import HERE, write_shop

from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.bundle_comparison import compare_bundles
from lmm4rec.serving.http import bundles
from lmm4rec.serving.http.app import make_app
from lmm4rec.serving.http.settings import Settings
from lmm4rec.serving.night_log import FILE, append_night


def test_the_log_of_the_nights_is_told_latest_first(runs: list[Path]) -> None:
    common = {"started": "2026-11-28T03:00:00+00:00", "conf": "/etc/shop.conf", "model": "VBPR"}
    append_night(runs[0], {"night": "one", "decision": "first", "why": "no bundle", **common})
    rows = {"users": {"kept": 9, "new": 1, "gone": 0}}
    comparison = {"overlap": {"overlap": 0.5}}
    append_night(runs[0], {"night": "two", "decision": "swapped", "rows": rows, "comparison": comparison, **common})
    with (runs[0] / FILE).open("a") as file:
        file.write('{"night": "cut sho\n{"night": "no decision"}\n')
    with TestClient(make_app(runs, Settings(hosts=HERE, token="t"))) as client:
        assert client.get("/nights").status_code == 401
        token = {"authorization": "Bearer t"}
        answer = client.get("/nights", headers=token).json()
        assert [(one["night"], one["decision"], one["why"]) for one in answer["nights"]] == [
            ("two", "swapped", ""), ("one", "first", "no bundle"),
        ]  # fmt: skip
        assert answer["nights"][0]["rows"] == rows
        assert answer["nights"][0]["comparison"] == comparison
        assert "conf" not in answer["nights"][0]
        assert client.get("/nights", params={"limit": 1}, headers=token).json()["nights"] == answer["nights"][:1]
        assert client.get("/nights", params={"bundle": "bare"}, headers=token).json()["nights"] == []


def test_a_bundle_that_finds_no_memory_costs_no_later_one(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "_WATCH_S", 0.02)
    load, failed = Bundle.load, threading.Event()

    def too_little_memory(*_: object, **__: object) -> Bundle:
        failed.set()
        raise MemoryError

    with TestClient(make_app(runs[1:], Settings(hosts=HERE))) as client:
        monkeypatch.setattr(Bundle, "load", too_little_memory)
        write_shop(runs[1], seed=3, content=False, title="Monday")
        assert failed.wait(10)
        monkeypatch.setattr(Bundle, "load", load)
        write_shop(runs[1], seed=4, content=False, title="Tuesday")
        end = time.monotonic() + 10
        while client.get("/bundles").json()["bundles"][0]["title"] != "Tuesday":
            assert time.monotonic() < end
            time.sleep(0.02)


def test_two_bundles_are_compared(reader: TestClient, shops: Path) -> None:
    answer = reader.get("/compare", params={"other": "bare", "k": 5}).json()
    expected = compare_bundles(Bundle.load(shops / "bare"), Bundle.load(shops / "whole"), 5)
    assert (answer["bundle"], answer["other"], answer["k"], answer["asked"]) == ("whole", "bare", 5, 30)
    assert answer["overlap"] == pytest.approx(expected.overlap.overlap)
    assert answer["users"] == {"both": 30, "only_this": 0, "only_other": 0}
    first = expected.gaining[0]
    assert answer["more"][0]["id"] == first.item
    assert (answer["more"][0]["this"], answer["more"][0]["other"]) == (first.after, first.before)
    assert answer["more"][0]["picture"].startswith("/thumbnails/")
    same = reader.get("/compare", params={"other": "whole"}).json()
    assert (same["overlap"], same["rank_biased"], same["first_changed"]) == (1, pytest.approx(1), 0)
    assert same["more"] == same["fewer"] == []
    assert reader.get("/compare", params={"other": "x"}).status_code == 404


def test_a_sample_of_the_users_is_even(shops: Path) -> None:
    one, two = Bundle.load(shops / "whole"), Bundle.load(shops / "bare")
    whole, part = compare_bundles(one, two, 5), compare_bundles(one, two, 5, most_users=10)
    assert whole.users == part.users
    assert whole.overlap != part.overlap
    assert compare_bundles(one, two, 5, most_users=30) == whole
