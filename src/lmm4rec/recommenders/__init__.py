"""Recommenders: models that turn interactions and item features into scores, one module each."""
