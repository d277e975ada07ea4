"""The code blocks of the documentation, page by page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDES = [ROOT / "README.md", DOCS / "index.md", DOCS / "tutorial.md", *sorted((DOCS / "guide").glob("*.md"))]
WRITTEN = [*GUIDES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((DOCS / "decisions").glob("*.md"))]
SLOW = "<!-- slow -->"  # on the line before a block that takes more than a few seconds
_BLOCK = re.compile(
    r"^(?P<slow><!-- slow -->\n+)?(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^ *```$", re.M | re.S
)


class Block(NamedTuple):
    """A fenced block of code."""

    page: str
    line: int
    language: str
    code: str
    slow: bool

    @property
    def source(self) -> str:
        """The code with as many empty lines before it as put its errors on the lines of the page."""
        return "\n" * self.line + self.code


def name(path: Path) -> str:
    """The page's path in the repository."""
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, *languages: str) -> list[Block]:
    """The blocks of a page in some languages, in order; indented ones (in a list) without their indent."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        if match["language"] in languages:
            code = re.sub(rf"(?m)^{match['indent']}", "", match["code"])
            line = text.count("\n", 0, match.start("code"))
            found.append(Block(name(path), line, match["language"], code, bool(match["slow"])))
    return found


def commands(path: Path) -> list[list[str]]:
    """The arguments of each `lmm4rec` command line in a page's blocks, comments left out."""
    lines = (
        line
        for block in blocks(path, "", "console")
        for line in block.code.replace("\\\n", " ").splitlines()
        if line.startswith("lmm4rec ")
    )
    return [shlex.split(line, comments=True)[1:] for line in lines]
