"""Adapters: small trainable parts of, or beside, an encoder that stays as it is."""
