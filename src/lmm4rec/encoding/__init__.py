"""How an encoder is run: chunks, precision, memory, modes and seeds."""
