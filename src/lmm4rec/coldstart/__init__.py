"""Cold start: vectors for items and users that a model was not trained on."""
