"""The record of a bundle's encoder: the plain values from which it is built again on another machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from lmm4rec.core.errors import CheckpointError, ConfigError
from lmm4rec.core.registry import ENCODERS
from lmm4rec.core.types import Item
from lmm4rec.encoders.base import Encoder
from lmm4rec.features.side_files import SavedSide, SideEncoder


@dataclass(frozen=True)
class EncoderRecord:
    """An encoder as its name and arguments; arguments that are encoders are records, too.

    `saved` is a folder that its `save_pretrained` wrote; without one, the arguments say where its weights are. With a
    `side` network trained beside it, the vectors are those of both.
    """

    name: str
    arguments: Mapping[str, Any]
    saved: Path | None = None
    held: bool = False  # the bundle's folder holds the weights, so copies of the bundle get them, too
    side: SavedSide | None = None  # always held by the bundle
    distribution: str = ""  # the plugin that brings the encoder; empty for those of lmm4rec

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, inside: Path) -> EncoderRecord:
        """The record that `to_json` wrote; relative folders lie `inside` one."""
        arguments = {
            key: cls.from_json(value, inside=inside) if isinstance(value, Mapping) and "encoder" in value else value
            for key, value in values["arguments"].items()
        }
        saved = inside / values["saved"] if "saved" in values else None
        return cls(values["encoder"], arguments, saved, distribution=values.get("distribution", ""))

    def to_json(self, inside: Path) -> dict[str, Any]:
        """The record as JSON can hold it; folders that lie `inside` one are written relative to it."""
        arguments = {
            key: value.to_json(inside) if isinstance(value, EncoderRecord) else value
            for key, value in self.arguments.items()
        }
        values: dict[str, Any] = {"encoder": self.name, "arguments": arguments}
        if distribution := self.distribution or ENCODERS.find(self.name).plugin:
            values["distribution"] = distribution
        if self.saved:
            here = self.saved.is_relative_to(inside)
            values["saved"] = str(self.saved.relative_to(inside) if here else self.saved.absolute())
        return values

    def build(self, catalog: Callable[[], Sequence[Item]]) -> Encoder:
        """The encoder, fitted to the catalog where it is one that needs this.

        Raises:
            LMM4RecError: its weights are not where the record says.
            CheckpointError: they are not those that the side network was trained with.
        """
        encoder = self._build_alone()
        encoder.learn_catalog(catalog())
        return (SideEncoder(encoder, self.side) if self.side else encoder).eval()

    def copied(self, folder: Path) -> EncoderRecord:
        """The record of a copy with its weights in `folder`; an encoder without weights stays as it is."""
        inner = {key: value for key, value in self.arguments.items() if isinstance(value, EncoderRecord)}
        if inner:
            copies = {key: record.copied(folder / key) for key, record in inner.items()}
            return replace(self, arguments={**self.arguments, **copies})
        encoder = self._build_alone()
        if not hasattr(encoder, "save_pretrained"):
            return self
        folder.mkdir(parents=True, exist_ok=True)
        encoder.save_pretrained(folder)  # type: ignore[operator]
        return replace(self, saved=folder)

    def _build_alone(self) -> Encoder:
        try:
            component = ENCODERS.get(self.name)
        except ConfigError as error:
            raise CheckpointError(
                f"the encoder '{self.name}' of this bundle cannot be had: install {self.distribution or 'lmm4rec'}, "
                f"which it came with, to search and to add items ({error})"
            ) from error
        if self.saved:
            return cast(Encoder, component.from_pretrained(self.saved))
        arguments = {
            key: value._build_alone() if isinstance(value, EncoderRecord) else value
            for key, value in self.arguments.items()
        }
        return cast(Encoder, component(**arguments))
