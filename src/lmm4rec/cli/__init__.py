"""The command line: one file for each group of commands; heavy imports stay inside the commands."""
