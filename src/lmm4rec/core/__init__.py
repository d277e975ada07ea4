"""The ground floor: types, names, files and errors that every other layer speaks in."""
