"""From images and words to vectors: one module an encoder, found by its name."""
