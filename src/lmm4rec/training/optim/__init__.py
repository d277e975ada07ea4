"""Adam, and the deferred rows of large tables."""
