"""Processes: one alone, or several that train one model together."""
