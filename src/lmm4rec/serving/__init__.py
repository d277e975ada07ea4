"""Bundles of trained models, which recommend without the training code, and their HTTP service."""
