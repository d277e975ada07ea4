"""From a conf file to a run folder: the only layer, with the CLI, that sees a config."""
