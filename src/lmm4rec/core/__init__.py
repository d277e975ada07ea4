"""The lowest layer: types, registries, files and errors that every other layer uses."""
