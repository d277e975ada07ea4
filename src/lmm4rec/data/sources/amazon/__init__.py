"""The Amazon review data as published in 2014, 2018 and 2023: its download and its reading."""

from lmm4rec.data.sources.amazon.source import load

__all__ = ["load"]
