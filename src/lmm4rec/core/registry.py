"""Components by name: those of this package, those that installed packages announce, and any by import path.

- A module of `lmm4rec.recommenders`, `lmm4rec.encoders`, `lmm4rec.data.sources` or `lmm4rec.coldstart.methods`: the
  module's name is the component's name, the first name in its `__all__` is the component.
- An entry point of an installed package, in the group `lmm4rec.recommenders`, `lmm4rec.encoders`, `lmm4rec.sources` or
  `lmm4rec.coldstart`.
- An import path, `package.module:Class`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoints, entry_points
from typing import Annotated, Any, get_args, get_origin

from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, did_you_mean

_OWN = "lmm4rec"


@dataclass(frozen=True)
class Installed:
    """A component that can be named: its import path, and the distribution that brings it."""

    name: str
    path: str  # "package.module:Class"; without a class, the first name in the module's `__all__`
    distribution: str  # "lmm4rec", or name and version of another distribution; empty where that is unknown

    @property
    def plugin(self) -> str:
        """The distribution, where it is not this one."""
        return "" if self.distribution == _OWN else self.distribution


class Registry:
    """The components of one kind, imported when they are needed."""

    def __init__(self, package: str, *, group: str, kind: str, base: str = "") -> None:
        """`group` is that of entry points, `kind` is the word that errors use, `base` the path of the class above."""
        self.package, self.group, self.kind, self._base = package, group, kind, base

    def installed(self) -> list[Installed]:
        """All components that have a name, in alphabetical order, without importing them; a name may occur twice."""
        found = [Installed(name, f"{self.package}.{name}", _OWN) for name in self._own_names()]
        for entry in _announced(self.group, tuple(sys.path)):
            origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"
            found.append(Installed(_key(entry.name), entry.value, origin))
        return sorted(found, key=lambda component: component.name)

    def names(self) -> list[str]:
        """The names of all installed components, in alphabetical order, without importing them."""
        return sorted({component.name for component in self.installed()})

    def find(self, name: str) -> Installed:
        """The origin of the component of a name or an import path; upper and lower case are alike in names.

        Raises:
            ConfigError: there is none of that name, or more than one.
        """
        if ":" in name:
            return Installed(name, name, next(iter(self._distributions(name)), ""))
        key = _key(name)
        found = [component for component in self.installed() if component.name == key]
        if len(found) == 1:
            return found[0]
        if found:
            places = " and ".join(f"'{component.path}' of {component.distribution}" for component in found)
            raise ConfigError(
                f"{len(found)} {self.kind}s are called '{key}': {places}. Name the one that you mean by its import "
                "path, package.module:Class, or uninstall the other"
            )
        known = self.names()
        raise ConfigError(
            f"unknown {self.kind} '{name}'.{did_you_mean(key, known)} There are: {', '.join(known)}; or give an import "
            "path, package.module:Class"
        )

    def get(self, name: str) -> Any:
        """The component (a class or a function) of a name or an import path.

        Raises:
            ConfigError: there is none, it cannot be imported, or it is of another kind.
        """
        return self.load(self.find(name))

    def load(self, installed: Installed) -> Any:
        """The imported component.

        Raises:
            ConfigError: it cannot be imported, or it is of another kind.
        """
        path, origin = installed.path, installed.distribution
        where = f"the {self.kind} '{installed.name}'" + (f" of {origin}" if origin not in ("", _OWN) else "")
        module_name, _, attribute = path.partition(":")
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # whatever the import of somebody else's module raises
            if origin == _OWN:
                raise  # MissingExtraError and the like say it better
            raise ConfigError(
                f"{where} cannot be imported: module '{module_name}' raises {type(error).__name__}: {error}"
            ) from error
        attribute = attribute or module.__all__[0]
        if not hasattr(module, attribute):
            known = [name for name, value in vars(module).items() if inspect.isclass(value)]
            raise ConfigError(
                f"{where} is not there: module '{module_name}' has no '{attribute}'.{did_you_mean(attribute, known)}"
            )
        component = getattr(module, attribute)
        self._check(component, where)
        return component

    def _check(self, component: Any, where: str) -> None:
        """Refuse what is no component of this kind."""
        if not self._base:
            if not callable(component):
                raise ConfigError(f"{where} is {component!r}; a {self.kind} is a function that returns a data set")
            return
        module, _, name = self._base.partition(":")
        base = getattr(importlib.import_module(module), name)
        if not (inspect.isclass(component) and issubclass(component, base)):
            raise ConfigError(f"{where} is {component!r}; a {self.kind} is a subclass of {module}.{name}")
        if lacks := sorted(getattr(component, "__abstractmethods__", ())):
            raise ConfigError(f"{where} is not complete: {component.__name__} must define {', '.join(lacks)}")

    def _own_names(self) -> Iterator[str]:
        path = importlib.import_module(self.package).__path__
        names = (module.name for module in pkgutil.iter_modules(path))
        return (name for name in names if name != "base" and not name.startswith("_"))

    def _distributions(self, path: str) -> Iterator[str]:
        """The distribution that announces an import path, where one does."""
        return (component.distribution for component in self.installed() if component.path == path)


@functools.cache
def _announced(group: str, path: tuple[str, ...]) -> EntryPoints:
    """The entry points of a group in the packages on `path`, which is sys.path: reading them all takes 10 ms."""
    return entry_points(group=group)


RECOMMENDERS = Registry(
    "lmm4rec.recommenders",
    group="lmm4rec.recommenders",
    kind="recommender",
    base="lmm4rec.recommenders.base:Recommender",
)
ENCODERS = Registry("lmm4rec.encoders", group="lmm4rec.encoders", kind="encoder", base="lmm4rec.encoders.base:Encoder")
SOURCES = Registry("lmm4rec.data.sources", group="lmm4rec.sources", kind="data source")
COLD_START = Registry(
    "lmm4rec.coldstart.methods",
    group="lmm4rec.coldstart",
    kind="cold-start method",
    base="lmm4rec.coldstart.methods.base:ColdStartMethod",
)


def plugins() -> dict[str, str]:
    """Names and versions of the installed distributions that announce components."""
    entries = [
        entry
        for registry in (RECOMMENDERS, ENCODERS, SOURCES, COLD_START)
        for entry in _announced(registry.group, tuple(sys.path))
    ]
    return {entry.dist.name: entry.dist.version for entry in entries if entry.dist}


def hyper_parameters(component: Any) -> dict[str, inspect.Parameter]:
    """The keyword-only arguments of a class or function: these ARE its hyper-parameters.

    Their annotations come without the `Doc` in them; `meanings` returns these.
    """
    return {
        name: parameter.replace(annotation=_split(parameter.annotation)[0])
        for name, parameter in _keyword_only(component).items()
    }


def meanings(component: Any) -> dict[str, str]:
    """The meaning of each hyper-parameter: the `Doc` in its annotation; empty where it has none."""
    return {name: _split(parameter.annotation)[1] for name, parameter in _keyword_only(component).items()}


@functools.cache
def _keyword_only(component: Any) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(component, eval_str=True).parameters
    return {name: one for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}


def _split(annotation: Any) -> tuple[Any, str]:
    """An annotation without its `Doc`, and the text of the latter."""
    if get_origin(annotation) is not Annotated:
        return annotation, ""
    plain, *metadata = get_args(annotation)
    rest = tuple(one for one in metadata if not isinstance(one, Doc))
    text = "".join(one.documentation for one in metadata if isinstance(one, Doc))
    return (Annotated[plain, *rest] if rest else plain), text


def _key(name: str) -> str:
    return name.lower().replace("-", "_")
