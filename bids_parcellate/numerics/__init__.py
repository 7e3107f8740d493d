"""Numerics: arrays and plain numbers in, arrays out."""
