"""The benchmark suite: ``python -m benchmarks --help``. It runs on Linux."""
