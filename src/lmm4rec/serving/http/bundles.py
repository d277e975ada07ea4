"""The bundles in service, by name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path

from lmm4rec.core.errors import LMM4RecError
from lmm4rec.serving.http.metrics import Metrics
from lmm4rec.serving.http.problems import Problem
from lmm4rec.serving.http.served_bundle import ServedBundle
from lmm4rec.serving.http.settings import Settings

logger = logging.getLogger(__name__)
_WATCH_S = 1.0  # between two looks at the bundles' folders


class ServedBundles:
    """The bundles in service, by name; the first one answers requests that name none."""

    def __init__(self, folders: Sequence[Path], settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self.is_reloading = False
        self._served: dict[str, ServedBundle] = {}
        for name, folder in _with_names(folders).items():
            self._served[name] = ServedBundle(name, folder, settings, metrics)

    def __iter__(self) -> Iterator[ServedBundle]:
        return iter(self._served.values())

    def get(self, name: str | None) -> ServedBundle:
        """The bundle of a name; the first one for None.

        Raises:
            Problem: no bundle has the name.
        """
        if name is None:
            return next(iter(self._served.values()))
        if name not in self._served:
            known = ", ".join(self._served)
            raise Problem(HTTPStatus.NOT_FOUND, f"no bundle is called '{name[:100]}'; there are: {known}")
        return self._served[name]

    async def reload(self) -> list[str]:
        """Load every bundle again; returns their names.

        Raises:
            LMM4RecError: one cannot be loaded; it and those after it stay as they were.
        """
        self.is_reloading = True
        try:
            for served in self._served.values():
                await served.reload()
                self._metrics.reloads.labels("done").inc()
        except LMM4RecError:
            self._metrics.reloads.labels("failed").inc()
            raise
        finally:
            self.is_reloading = False
        return list(self._served)

    async def watch(self) -> None:
        """Follow what others change on disk, for as long as the service runs.

        A bundle is loaded again whenever another one is put into its folder; one that cannot be loaded is reported
        once, and the old one stays. Items that other processes add or remove are added and removed.
        """
        while True:
            await asyncio.sleep(_WATCH_S)
            for served in self._served.values():
                try:
                    if served.is_replaced and not self.is_reloading:
                        await self._load_replaced(served)
                    await served.follow_items()
                except Exception:  # such as too little memory for two bundles: what comes later is followed still
                    logger.exception("%s: what changed on disk cannot be followed", served.name)

    async def _load_replaced(self, served: ServedBundle) -> None:
        try:
            await served.reload()
        except LMM4RecError as error:
            self._metrics.reloads.labels("failed").inc()
            logger.error("%s: the new bundle cannot be loaded, the old one stays: %s", served.name, error)
        else:
            self._metrics.reloads.labels("done").inc()
            logger.info("%s: loaded the new bundle", served.name)

    def close(self) -> None:
        """Close all."""
        for served in self._served.values():
            served.close()


def _with_names(folders: Sequence[Path]) -> dict[str, Path]:
    """A name for each folder: its own, made unique by that of the folder above it or by a number."""
    named: dict[str, Path] = {}
    for folder in folders:
        path = folder.resolve()
        path = path.parent if path.name == "bundle" else path
        name = path.name if path.name not in named else f"{path.parent.name}-{path.name}"
        while name in named:
            name += "-2"
        named[name] = folder
    return named
