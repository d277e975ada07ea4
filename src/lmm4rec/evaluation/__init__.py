"""Evaluation by full ranking: metrics by user, item slices, beyond-accuracy metrics, significance."""
