"""From pictures and words to vectors: one module an encoder, found by its name."""
