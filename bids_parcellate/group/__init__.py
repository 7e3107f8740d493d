"""The group: its mask, merge and fit, and individual parcels."""
