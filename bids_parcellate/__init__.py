"""bids-parcellate: a BIDS-App that fits a group brain parcellation on fMRI derivatives."""

__version__ = "0.1.0.dev0"
