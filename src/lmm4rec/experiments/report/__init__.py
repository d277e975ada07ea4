"""Pages that people look at: tables, curves, images."""
