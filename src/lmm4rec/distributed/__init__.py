"""Where work runs: in this process, or in several that train one model together."""
