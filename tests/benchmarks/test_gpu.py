"""The benchmark of a GPU at toy sizes: what it measures is written, also where a section fails or has no time left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lmm4rec.core.files import read_json

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(*options: str) -> str:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), *options]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=BENCHMARKS)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.slow
def test_tiny_sections_write_their_values(tmp_path: Path) -> None:
    run("--tiny", "--only", "models,ranking", "--out", str(tmp_path / "gpu.json"))
    written: dict[str, Any] = read_json(tmp_path / "gpu.json")
    values = written["values"]
    assert written["benchmark"] == "gpu"
    assert written["machine"]
    assert not [name for name in ("peak", "models", "ranking") if "error" in values[name]]
    assert values["peak"]["tflops"]["bfloat16"] > 0
    for model in ("lightgcn", "freedom"):
        assert values["models"][model]["milliseconds_a_batch"] > 0
    assert values["ranking"]["baby"]["users_per_s"] > 0


@pytest.mark.slow
def test_a_section_without_time_is_ended_and_the_others_are_measured(tmp_path: Path) -> None:
    """Of six seconds five are for starting and writing: each section ends in its first one."""
    run("--tiny", "--minutes", "0.1", "--only", "training", "--out", str(tmp_path / "gpu.json"))
    values = read_json(tmp_path / "gpu.json")["values"]
    for name in ("peak", "training"):
        assert "ended after its 1 s" in values[name]["error"]
        assert values[name]["section_seconds"] < 10


@pytest.mark.slow
def test_a_section_that_fails_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here torch cannot be imported in the sections' processes."""
    sys.path.insert(0, str(BENCHMARKS))
    import gpu

    monkeypatch.setattr(gpu, "__file__", str(tmp_path / "broken.py"))
    (tmp_path / "broken.py").write_text("raise ImportError('no CUDA')")
    values = gpu.measured("models", 20.0, {}, tmp_path, tiny=True)
    assert "exit status 1" in values["error"]
    assert "no CUDA" in values["error"]
