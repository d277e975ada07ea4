"""From vectors and who-liked-what to scores: one module a recommender, found by its name."""
