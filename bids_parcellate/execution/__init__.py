"""Where tasks run, and what they take."""
