"""Where benchmark figures go: one JSON file each, with the machine, the commit and the library versions."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmm4rec.core.files import write_json
from lmm4rec.experiments.environment import environment

HERE = Path(__file__).parent


def write(name: str, values: Mapping[str, Any]) -> Path:
    """Write `results/<name>.json` and print the values; returns the file's path."""
    path = save(name, values, HERE / "results" / f"{name}.json")
    print(json.dumps(values, indent=2))
    print(f"written to {path}")
    return path


def save(name: str, values: Mapping[str, Any], path: Path) -> Path:
    """Write the values of a benchmark into a file, without the folders of the machine; returns its path."""
    facts = environment()
    facts["command"] = [Path(one).name if Path(one).is_absolute() else one for one in facts["command"]]
    write_json(path, {"benchmark": name, "load": os.getloadavg()[0], **facts, "values": dict(values)})
    return path
