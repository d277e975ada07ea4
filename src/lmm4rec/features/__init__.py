"""Vectors of a whole catalog: extracted once, stored by content, handed to recommenders."""
