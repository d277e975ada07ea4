"""Encoders: one module each, found by its name, that turn images and texts into vectors."""
