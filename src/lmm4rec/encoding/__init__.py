"""Running encoders: chunks, precision, memory, modes and seeds."""
