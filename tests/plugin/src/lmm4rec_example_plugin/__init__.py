"""Components for lmm4rec, announced by the entry points in pyproject.toml."""
