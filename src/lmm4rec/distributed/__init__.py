"""Where work runs: independent jobs on a pool of workers, and processes that train one model together."""
