"""Progress bars that behave on a terminal, in a log file and in a notebook."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm


def progress(*, total: int | None, description: str, unit: str, shown: bool = True, after_s: float = 0.0) -> Any:
    """A tqdm bar to `update`; away from a terminal it writes a line now and then instead of many.

    What is over before `after_s` seconds shows no bar.
    """
    on_terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        disable=not shown,
        delay=after_s,
        mininterval=0.2 if on_terminal else 10.0,
        dynamic_ncols=on_terminal,
        leave=False if on_terminal else None,
    )
