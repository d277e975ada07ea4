"""Choose a model and run its conf file: `python main.py`, or `python main.py VBPR -s train.epochs=5`.

The import path of a class, `mypackage.models:MyModel`, can stand in the place of a name.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from rich.console import Console
from rich.prompt import Prompt

from lmm4rec.cli.app import main as lmm4rec
from lmm4rec.core.errors import LMM4RecError, did_you_mean
from lmm4rec.core.registry import RECOMMENDERS

CONF = Path(__file__).parent / "conf"


def models() -> dict[str, tuple[Path, str]]:
    """The conf file and the title of every model, by the name to type."""
    confs = {path.stem: path for path in sorted(CONF.glob("*.conf"))}
    return {name: (path, tomllib.loads(path.read_text(encoding="utf-8"))["title"]) for name, path in confs.items()}


def choose(known: dict[str, tuple[Path, str]]) -> str:
    console = Console()
    names = list(known)
    for number, name in enumerate(names, start=1):
        console.print(f"{number:3}  {name:12} {known[name][1]}", highlight=False)
    answer = Prompt.ask("model", choices=[*map(str, range(1, len(names) + 1)), *names], show_choices=False)
    return names[int(answer) - 1] if answer.isdigit() else answer


def conf_for(path: str) -> Path:
    """The conf file whose data, encoder and training serve for a class that is given by its import path."""
    sys.path.append(str(Path.cwd()))
    try:
        return CONF / ("vbpr.conf" if RECOMMENDERS.get(path).uses_content else "bpr.conf")
    except LMM4RecError as error:
        sys.exit(f"error: {error}")


def main(arguments: list[str]) -> None:
    known = models()
    if arguments and not arguments[0].startswith("-"):
        name, options = arguments[0], arguments[1:]
    elif {"-h", "--help"} & set(arguments):
        sys.exit(f"{__doc__}\nModels: {', '.join(known)}\nOptions: those of `lmm4rec run`.")
    elif sys.stdin.isatty():
        name, options = choose(known), arguments
    else:
        sys.exit(f"name a model: python main.py MODEL. There are: {', '.join(known)}")
    if ":" in name:
        lmm4rec(["run", str(conf_for(name)), "-s", f"recommender.name={name}", *options])
        return
    found = next((conf for model, (conf, _) in known.items() if model.lower() == name.lower()), None)
    if found is None:
        sys.exit(f"there is no model '{name}' in {CONF}.{did_you_mean(name, known)} There are: {', '.join(known)}")
    lmm4rec(["run", str(found), *options])


if __name__ == "__main__":
    main(sys.argv[1:])
