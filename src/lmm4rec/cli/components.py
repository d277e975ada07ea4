"""Components described in words: those of this package by their source files, which imports nothing (no torch)."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lmm4rec
from lmm4rec.core.errors import ConfigError
from lmm4rec.core.registry import ENCODERS, RECOMMENDERS, SOURCES, Installed, Registry, hyper_parameters

PRECOMPUTED = Installed("precomputed", "lmm4rec.data.feature_files:read_shipped", "lmm4rec")
"""Feature files, which a conf names in the place of an encoder."""
_ABOUT_PRECOMPUTED = {
    "gives": "what the files hold",
    "weights": "none: feature files, or those that came with the data",
}
_CITATION = re.compile(r"\(([A-Z][\w-]+(?: et al\.| and [A-Z][\w-]+|,| (?=\d))[^()]*\d{4}[^()]*)\)")
_IDENTIFIER = re.compile(r"arXiv \d{4}\.\d{4,5}|doi \S+")


@dataclass(frozen=True)
class ListedComponent:
    """A component as a conf file names it."""

    kind: str
    name: str
    module_doc: str  # the docstring of its module
    doc: str  # its own docstring
    about: Mapping[str, str]  # its vectors, weights and sizes, as the class states them
    keys: tuple[str, ...]  # the names of its hyper-parameters
    plugin: str = ""  # the distribution that brings it; empty for those of lmm4rec
    load: Callable[[], Callable[..., Any]] = field(compare=False, kw_only=True)

    @property
    def component(self) -> Callable[..., Any]:
        """The component itself, imported."""
        return self.load()

    @property
    def what(self) -> str:
        """A description in one line: the first of its module's docstring."""
        line = self.module_doc.split("\n", 1)[0]
        title, colon, rest = line.partition(": ")
        own = colon and re.sub(r"\W", "", title).lower() == self.name.replace("_", "")
        return rest[0].upper() + rest[1:] if own else line

    @property
    def text(self) -> str:
        """Its docstring, without what only a caller from Python needs."""
        return self.doc.partition("\n\nRaises:")[0]

    @property
    def citation(self) -> str:
        """The paper as its docstring cites it, with authors and year; empty where there is none."""
        cited = _CITATION.search(" ".join(self.text.split()))
        return cited[1] if cited else ""

    @property
    def paper(self) -> str:
        """The paper's arXiv number, else its doi, else authors and year; empty where the docstring cites none."""
        found = _IDENTIFIER.search(self.citation)
        return found.group().rstrip(",.;") if found else self.citation


def listed(registry: Registry) -> Iterator[Installed]:
    """The components of a kind that a conf file can name, in alphabetical order."""
    extra = [PRECOMPUTED] if registry is ENCODERS else []
    return iter(sorted([*registry.installed(), *extra], key=lambda installed: installed.name))


def describe(registry: Registry, installed: Installed) -> ListedComponent:
    """The description of a component: of this package by its source, else imported.

    Raises:
        ConfigError: it cannot be imported.
    """
    return (
        described_by_source(registry, installed) if not installed.plugin else described_by_import(registry, installed)
    )


def described_by_import(registry: Registry, installed: Installed) -> ListedComponent:
    """The description of an imported component.

    Raises:
        ConfigError: it cannot be imported.
    """
    component = _load(registry, installed)
    about = _ABOUT_PRECOMPUTED if installed is PRECOMPUTED else getattr(component, "about", {})
    return ListedComponent(
        registry.kind,
        installed.name,
        inspect.getdoc(sys.modules[component.__module__]) or "",
        inspect.getdoc(component) or "",
        about,
        tuple(hyper_parameters(component)),
        installed.plugin,
        load=lambda: component,
    )


def described_by_source(registry: Registry, installed: Installed) -> ListedComponent:
    """The description of a component of this package, read from its source file."""
    module, _, name = installed.path.partition(":")
    source, node = _definition(module, name or _exported(module))
    about = _ABOUT_PRECOMPUTED if installed is PRECOMPUTED else _about(node)
    return ListedComponent(
        registry.kind,
        installed.name,
        ast.get_docstring(_source(source)) or "",
        ast.get_docstring(node) or "",
        about,
        _keyword_only(source, node),
        load=functools.partial(_load, registry, installed),
    )


def by_import_path(path: str) -> ListedComponent:
    """The description of the component of an import path, of whichever kind it is.

    Raises:
        ConfigError: there is none.
    """
    errors = []
    for registry in (RECOMMENDERS, ENCODERS, SOURCES):
        try:
            return described_by_import(registry, registry.find(path))
        except ConfigError as error:
            errors.append(error)
    raise errors[0]


def _load(registry: Registry, installed: Installed) -> Callable[..., Any]:
    if installed is PRECOMPUTED:
        from lmm4rec.data.feature_files import read_shipped

        return read_shipped
    return registry.load(installed)


@functools.cache
def _source(module: str) -> ast.Module:
    """The syntax tree of a module of this package."""
    path = Path(lmm4rec.__path__[0]).joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _exported(module: str) -> str:
    """The first name in a module's `__all__`."""
    for node in _source(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return str(ast.literal_eval(node.value)[0])
    raise ConfigError(f"module '{module}' has no __all__, whose first name is the component")


def _definition(module: str, name: str) -> tuple[str, ast.ClassDef | ast.FunctionDef]:
    """The module that defines a name, and the definition; imports are followed."""
    for node in _source(module).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and node.module and name in [alias.name for alias in node.names]:
            return _definition(node.module, name)
    raise ConfigError(f"module '{module}' defines no '{name}'")


def _about(node: ast.ClassDef | ast.FunctionDef) -> Mapping[str, str]:
    """The value of the class variable `about`, which is written out; empty where there is none."""
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and ast.unparse(part.target) == "about" and part.value is not None:
            value: Mapping[str, str] = ast.literal_eval(part.value)
            return value
    return {}


def _keyword_only(module: str, node: ast.ClassDef | ast.FunctionDef) -> tuple[str, ...]:
    """The keyword-only arguments of a function, or of a class's constructor, which may be that of the class above."""
    if isinstance(node, ast.FunctionDef):
        return tuple(argument.arg for argument in node.args.kwonlyargs)
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return _keyword_only(module, part)
    bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
    return _keyword_only(*_definition(module, bases[0])) if bases else ()
