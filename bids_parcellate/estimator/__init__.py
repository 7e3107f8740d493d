"""The estimator and its masker."""
