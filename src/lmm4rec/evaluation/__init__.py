"""Full ranking and what it says: metrics for each user, slices, beyond accuracy."""
