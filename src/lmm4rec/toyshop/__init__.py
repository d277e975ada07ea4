"""The built-in world: a shop drawn from a seed, whose truth is known."""
