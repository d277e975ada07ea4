"""Transformers by family, and what they share."""
