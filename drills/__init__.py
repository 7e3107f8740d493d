"""Drills that are too long for the gate: one command each; results are in docs/reliability.md."""
