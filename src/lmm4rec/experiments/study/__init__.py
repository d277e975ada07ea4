"""Studies: many runs that differ along axes, done by several workers, and resumed after an interruption."""
