"""Studies: many runs that differ along axes, made by several processes, ended at any time and gone on with."""
