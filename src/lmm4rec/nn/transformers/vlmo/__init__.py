"""VLMo: its network and its official checkpoints."""
