"""The pages under Reference, generated from the package: one for each package of modules, the commands, and HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import lmm4rec
from lmm4rec.experiments.conf.keys import Key

SRC = Path(__file__).parents[2] / "src"
PUBLIC = "lmm4rec.api"  # what `import lmm4rec` offers
# What a reader looks for first comes first; a package that is not named here comes after these.
ORDER = ["core", "data", "encoders", "recommenders", "features", "training", "evaluation", "serving", "testing"]
ELSEWHERE = {"cli"}  # documented as commands


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The configuration with every generated page in the navigation."""
    pages = [
        {"Commands": "reference/commands.md"},
        {"Configuration keys": "reference/keys.md"},
        {"HTTP endpoints": "reference/http.md"},
        {"lmm4rec": "reference/lmm4rec.md"},
        *({name: _page(name)} for name in _packages()),
    ]
    section = next(entry["Reference"] for entry in config.nav or [] if "Reference" in entry)
    section.extend(pages)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of the site with the generated ones."""
    pages = {
        "reference/lmm4rec.md": _public(),
        "reference/commands.md": _commands(),
        "reference/keys.md": _keys(),
        "reference/http.md": _http(),
    }
    pages |= {_page(name): _modules(name) for name in _packages()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def _packages() -> list[str]:
    """The dotted names, within lmm4rec, of the packages that hold modules."""
    root = SRC / "lmm4rec"
    folders = (path.parent for path in root.rglob("__init__.py") if path.parent != root)
    names = [".".join(folder.relative_to(root).parts) for folder in folders if any(_sources(folder))]
    return sorted((name for name in names if name.split(".")[0] not in ELSEWHERE), key=_rank)


def _rank(name: str) -> tuple[int, str]:
    room = name.split(".", maxsplit=1)[0]
    return ORDER.index(room) if room in ORDER else len(ORDER), name


def _sources(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*.py")) if not path.name.startswith("_"))


def _page(package: str) -> str:
    return f"reference/{package}.md"


def _public() -> str:
    text = (
        "# lmm4rec\n\nWhat `import lmm4rec` offers. Everything else is imported from its module, as the guide to\n"
        "[training from Python](../guide/python.md) does.\n"
    )
    return text + "".join(
        _documented(f"{PUBLIC}.{name}", heading_level=2, inherited_members="true") for name in lmm4rec.__all__
    )


def _modules(package: str) -> str:
    folder = SRC / "lmm4rec" / Path(*package.split("."))
    name = f"lmm4rec.{package}"
    text = f"# {package}\n" + _documented(name, members="false", show_root_heading="false", show_root_toc_entry="false")
    return text + "".join(_documented(f"{name}.{path.stem}", heading_level=2) for path in _sources(folder))


def _documented(name: str, **options: object) -> str:
    lines = "".join(f"      {key}: {value}\n" for key, value in options.items())
    return f"\n::: {name}\n    options:\n{lines}"


def _commands() -> str:
    from lmm4rec.cli.app import app

    text = "# Commands\n\n`lmm4rec COMMAND --help` shows the same in a terminal.\n"
    return text + "".join(_command(name, command) for name, command in walk(typer.main.get_command(app), ""))


def walk(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The commands of a group and of the groups in it, with their full names."""
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from walk(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def _command(name: str, command: Any) -> str:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    usage = " ".join(["lmm4rec", name, *(_placeholder(argument) for argument in arguments), "[OPTIONS]"])
    help_text = (command.help or "").replace("\\[", "[")
    text = f"\n## {name}\n\n{help_text}\n\n```text\n{usage}\n```\n\n| | |\n|---|---|\n"
    for parameter in command.params:
        if parameter.name != "help":
            names = _placeholder(parameter) if parameter in arguments else ", ".join(parameter.opts)
            text += f"| `{_cell(names)}` | {_cell(parameter.help or '')}{_default(parameter)} |\n"
    return text


def _placeholder(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _default(parameter: Any) -> str:
    value = parameter.default
    if value in (None, "", False, True) or callable(value) or parameter.param_type_name == "argument":
        return ""
    return f" Default: `{_cell(str(getattr(value, 'value', value)))}`."


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\\\\[", "[")


def _keys() -> str:
    """Every key of a conf file with its meaning, as `lmm4rec models` shows it."""
    from lmm4rec.cli.models import entries
    from lmm4rec.experiments.conf.keys import TABLE_MEANINGS, components, end2end_components, keys_of
    from lmm4rec.features.adapters import ADAPTERS

    text = (
        "# Configuration keys\n\nThe tables of a conf file, generated from the code. `lmm4rec models NAME` shows the\n"
        "keys of one component in a terminal. A key that is not listed stops the run.\n"
    )
    own = {
        "data": ("[data], beside the keys of the source", components("data", {"data": {"name": "toyshop"}})[1:]),
        "features.end2end": ("[features.end2end]", end2end_components("none")[:-1]),
    }
    for table, meaning in TABLE_MEANINGS.items():
        if table in ("encoder", "recommender"):
            continue  # their keys are those of the components below
        title, parts = own.get(table) or (f"[{table}]", components(table, {}))
        text += f"\n## {title}\n\n{meaning}\n\n{_key_table(keys_of(*parts))}"
    for name, adapter in ADAPTERS.items():
        text += f'\n## [features.end2end] with `adapter = "{name}"`\n\n{_key_table(keys_of(adapter))}'
    for entry in entries():
        text += f"\n## {entry.kind} `{entry.name}`\n\n{entry.what}\n\n{_key_table(keys_of(entry.component))}"
    return text


def _key_table(keys: Iterable[Key]) -> str:
    rows = [
        f"| {' | '.join(map(_cell, (f'`{key.name}`', key.kind, key.default, key.allowed, key.meaning)))} |\n"
        for key in keys
    ]
    return (
        "| key | type | default | allowed | meaning |\n|---|---|---|---|---|\n" + "".join(rows)
        if rows
        else "No keys.\n"
    )


def _http() -> str:
    from lmm4rec.serving.http.app import make_app
    from lmm4rec.serving.http.settings import Settings

    document = make_app([], Settings()).openapi()
    text = (
        "# HTTP endpoints\n\nThe endpoints of `lmm4rec serve`. A running service shows them with limits and examples\n"
        "at `/docs`, and as an OpenAPI document at `/openapi.json`; the [guide](../guide/serving.md) says how to use\n"
        "them.\n"
    )
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            text += f"\n## `{method.upper()} {path}`\n\n{operation.get('description', operation['summary'])}\n\n"
            rows = [_parameter(parameter) for parameter in operation.get("parameters", [])]
            rows += _body(operation, document)
            text += ("| parameter | in | type | |\n|---|---|---|---|\n" + "".join(rows)) if rows else ""
    return text


def _parameter(parameter: dict[str, Any]) -> str:
    kind = _kind(parameter["schema"])
    return f"| `{parameter['name']}` | {parameter['in']} | {kind} | {_cell(parameter.get('description', ''))} |\n"


def _body(operation: dict[str, Any], document: dict[str, Any]) -> list[str]:
    rows = []
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content["schema"]
        schema = document["components"]["schemas"][schema["$ref"].split("/")[-1]] if "$ref" in schema else schema
        for name, value in schema.get("properties", {}).items():
            rows.append(f"| `{name}` | body | {_kind(value)} | {_cell(value.get('description', ''))} |\n")
    return rows


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(part) for part in schema["anyOf"] if part.get("type") != "null")
    kind = str(schema.get("type", schema.get("$ref", "").split("/")[-1]))
    return f"list of {_kind(schema['items'])}" if kind == "array" else kind
