"""One run: its input, its steps, its signals."""
