"""Conf files: read, checked against signatures, completed."""
