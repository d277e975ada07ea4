"""Catalogs and interaction logs: reading, checking, filtering, splitting."""
