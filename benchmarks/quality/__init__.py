"""Which features make the better parcels, by evidence: ``python -m benchmarks.quality``."""
