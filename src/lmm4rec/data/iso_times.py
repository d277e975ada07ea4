"""Moments in text, in the forms of ISO 8601."""

from __future__ import annotations

import polars as pl

_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z",
    "%Y%m%dT%H%M%S%.f", "%Y%m%dT%H%M%S%.f%#z", "%Y%m%dT%H%M", "%Y%m%dT%H%M%#z",
)  # fmt: skip


def with_t(text: pl.Expr) -> pl.Expr:
    """Texts of moments in one form: T between date and time, a point in seconds, and no name of UTC at the end."""
    text = text.str.strip_chars().str.replace(r"\s*(UTC|GMT)$", "").str.replace(" ", "T", literal=True)
    return text.str.replace(r"(T\d\d:?\d\d:?\d\d),(\d)", "${1}.${2}")


def read_moments(text: pl.Expr, formats: tuple[str, ...] = _FORMATS) -> pl.Expr:
    """The moments in UTC of texts that `with_t` gives; null for a text in none of the formats."""
    return pl.coalesce(text.str.to_datetime(format_, strict=False, time_zone="UTC") for format_ in formats)
