"""Where data sets come from: one module a source, found by its name."""
