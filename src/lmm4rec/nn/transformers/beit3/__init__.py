"""BEiT-3: its network and its official checkpoints."""
