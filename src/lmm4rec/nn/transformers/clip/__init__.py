"""CLIP: its checkpoints as folders and as original files."""
