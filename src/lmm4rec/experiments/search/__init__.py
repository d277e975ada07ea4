"""Hyper-parameter search by the validation part alone."""
