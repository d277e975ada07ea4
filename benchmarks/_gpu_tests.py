"""The section of `gpu.py` that runs the tests marked `gpu`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from _gpu_device import Options, Section

ROOT = Path(__file__).parents[1]
_OUTCOME = re.compile(r"^(tests/\S+) (PASSED|FAILED|ERROR|SKIPPED)")
_COLLECTED = re.compile(r"^tests/\S+::\S+")


def tests(options: Options) -> Section:
    """Outcomes of the tests, and the end of pytest's output where one failed; without a GPU they are collected only."""
    files = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/test_*.py") if _has_mark(path))
    # other versions of the libraries than the pinned ones warn of other things
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "-W", "default"]
    command += ["--collect-only", "-q"] if options.tiny else ["-v", "--tb=short"]
    paths = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    run = subprocess.Popen(
        [*command, *files], cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    outcomes, lines = Counter[str](), list[str]()
    assert run.stdout is not None
    for line in run.stdout:
        lines.append(line.rstrip())
        if options.tiny:
            outcomes["collected"] += bool(_COLLECTED.match(line))
        elif found := _OUTCOME.match(line):
            outcomes[found[2].lower()] += 1
            yield {"outcomes": dict(outcomes)}
    failed = {} if run.wait() == 0 else {"error": "\n".join(lines)[-6000:]}
    yield {"files": files, "outcomes": dict(outcomes), **failed}


def _has_mark(path: Path) -> bool:
    return "@pytest.mark.gpu" in path.read_text()
