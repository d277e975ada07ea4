"""Pages whose text is kept elsewhere: decisions in the navigation, changelog, contributing guide, and notebooks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
CHECKS = "## The checks\n"  # of CONTRIBUTING.md: what comes before is the guide to adding a component


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The configuration with every decision in the navigation."""
    section = next(entry["Decisions"] for entry in config.nav or [] if "Decisions" in entry)
    pages = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    section.extend([{"Decisions": "decisions/index.md"}, *({_title(path): f"decisions/{path.name}"} for path in pages)])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of the site with those whose text is kept elsewhere."""
    contributing, components = _contributing()
    pages = {
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "contributing.md": contributing,
        "guide/components.md": components,
        "decisions/index.md": _decisions(),
    }
    pages |= {f"notebooks/{path.stem}.md": _notebook(path) for path in (ROOT / "docs" / "notebooks").glob("*.ipynb")}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """The page, unless it loads something from another host: the site works without a network."""
    elsewhere = re.search(r"<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^\"'> ]+", output)
    if elsewhere and 'rel="canonical"' not in elsewhere.group():
        raise PluginError(f"{page.file.src_uri} loads from another host: {elsewhere.group()}")
    return output


def _title(path: Path) -> str:
    return path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")


def _decisions() -> str:
    pages = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    listed = "".join(f"- [{_title(path)}]({path.name})\n" for path in pages)
    return f"# Decisions\n\nWhat was decided, why, and what follows from it; one page each.\n\n{listed}"


def _contributing() -> tuple[str, str]:
    """CONTRIBUTING.md in two: how the project works, and how a component is added."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    text = re.sub(r"\[([^\]]+)\]\((?!https?:|#|docs/)[^)]+\)", r"\1", text)  # files that the site does not have
    text = text.replace("](docs/", "](")
    head, heading, adding = text.partition("## ")
    adding, checks, rest = adding.partition(CHECKS)
    if not checks:
        raise PluginError(f"CONTRIBUTING.md has no section '{CHECKS.strip()}'")
    pointer = "[Adding a component](guide/components.md) says how.\n\n"
    components = "# Adding a component\n\n" + heading + adding.replace("](", "](../")
    return head + pointer + checks + rest, re.sub(r"\]\(\.\./(https?:|#)", r"](\1", components)


def _notebook(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(part for cell in cells for part in _cell(cell)) + "\n"


def _cell(cell: dict[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    printed = "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")
    if printed:
        yield f"```text\n{printed.rstrip()}\n```"
    for output in cell["outputs"]:
        if "image/png" in output.get("data", {}):
            yield f"![Output of the cell above](data:image/png;base64,{''.join(output['data']['image/png']).strip()})"
        elif "text/markdown" in output.get("data", {}):
            yield "".join(output["data"]["text/markdown"])
        elif "text/plain" in output.get("data", {}):
            yield f"```text\n{''.join(output['data']['text/plain'])}\n```"
