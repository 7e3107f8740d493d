"""BIDS Derivatives, provenance, and the words that go with them."""
