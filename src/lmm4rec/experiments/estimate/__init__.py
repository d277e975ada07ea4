"""Estimates: what encoding, fine-tuning, training and studies take, measured on a few items and batches."""
