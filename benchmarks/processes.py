"""What a second process is worth: seconds of an encoder-bound epoch in one process and in two, of one thread each.

    python benchmarks/processes.py
    python benchmarks/processes.py --epochs 1 --items 100     # a try

The target is 1.7 times the speed. It needs two idle cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _results import write

CONF = """
title = "an encoder-bound epoch"
[data]
name = "toyshop"
items = {items}
[encoder]
name = "clip"
checkpoint = "tiny"
[features]
train = "end2end"
precision = "float32"
[features.end2end]
precision = "float32"
validate_on = "table"
refresh_every = 0
[recommender]
name = "vbpr"
[train]
epochs = {epochs}
batch_size = 1024
evaluate_every = {epochs}
"""


def epoch_seconds(processes: int, folder: Path, conf: str) -> float:
    """Training alone, without what a run does before and after it."""
    (folder / "speed.conf").write_text(conf)
    out = folder / str(processes)
    command = [sys.executable, "-m", "lmm4rec.cli.app", "run", str(folder / "speed.conf"), "-o", str(out)]
    subprocess.run([*command, "--processes", str(processes)], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    metrics = json.loads((out / "metrics.json").read_text())
    cost = metrics["cost"]
    return float((cost["train_seconds"] - cost["validate_seconds"]) / metrics["chosen"]["epochs"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--name", default="processes", help="of the JSON file")
    options = parser.parse_args()
    conf = CONF.format(items=options.items, epochs=options.epochs)
    with tempfile.TemporaryDirectory() as folder:
        seconds = {processes: epoch_seconds(processes, Path(folder), conf) for processes in (1, 2)}
    write(
        options.name,
        {
            "options": vars(options),
            "seconds_an_epoch": seconds,
            "speed_of_two": seconds[1] / seconds[2],
            "target": 1.7,
        },
    )


if __name__ == "__main__":
    main()
