"""Nights that fail or are refused: what is advised works, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from night_shops import OPTIONS, conf, write_log

from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.experiments import run as run_module
from lmm4rec.experiments.night.refresh import refresh


@pytest.mark.parametrize("live", ["s3://bucket/live", "az://container/live", Path("gs://bucket/live")])
def test_a_live_folder_in_an_object_store_is_refused_from_python_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live: str | Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"a live folder lies on this machine, got {live}: name a folder"):
        refresh(conf(tmp_path / "data"), live, options=OPTIONS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_night_that_fails_after_training_advises_what_refresh_can_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's own advice, to go on with --resume, has no place here: refresh has no such option."""

    def fail(*_: object) -> None:
        raise DataError("no bundle")

    write_log(tmp_path / "data", range(30), range(50), 8)
    tables = conf(tmp_path / "data", "popular")
    with monkeypatch.context() as broken:
        broken.setattr(run_module, "pack", fail)
        with pytest.raises(DataError, match="no bundle") as failure:
            refresh(tables, tmp_path / "live", options=OPTIONS)
    assert failure.value.__notes__ == ["What was served stays, and the same command begins the night anew"]
    assert refresh(tables, tmp_path / "live", options=OPTIONS).decision == "first"
