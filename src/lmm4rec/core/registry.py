"""Components found by name: the module's name is the component's name, the first of `__all__` is the component.

So a new recommender or encoder is one new file, and deleting one breaks nothing else.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

from lmm4rec.core.errors import ConfigError, did_you_mean


class Registry:
    """The components of one package, imported when they are asked for."""

    def __init__(self, package: str, *, kind: str) -> None:
        """`kind` is the word that errors use, such as "recommender"."""
        self.package, self.kind = package, kind

    def names(self) -> list[str]:
        """The names of all components, in alphabetical order, without importing them."""
        path = importlib.import_module(self.package).__path__
        names = (module.name for module in pkgutil.iter_modules(path))
        return sorted(name for name in names if name != "base" and not name.startswith("_"))

    def get(self, name: str) -> Any:
        """The component (a class or a function) of the given name; upper and lower case are alike.

        Raises:
            ConfigError: there is none of that name.
        """
        known = self.names()
        key = name.lower().replace("-", "_")
        if key not in known:
            raise ConfigError(f"unknown {self.kind} '{name}'.{did_you_mean(key, known)} There are: {', '.join(known)}")
        module = importlib.import_module(f"{self.package}.{key}")
        return getattr(module, module.__all__[0])


def hyper_parameters(component: Any) -> dict[str, inspect.Parameter]:
    """The keyword-only arguments of a class or function: these ARE its hyper-parameters."""
    signature = inspect.signature(component, eval_str=True)
    return {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
