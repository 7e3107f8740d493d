"""A simulated resting-state study whose answer is known: brain, parcels, signal, motion, noise and confounds.

Arrays and plain numbers only; :mod:`bids_parcellate.demo` writes them as files. Lengths are in mm in the RAS+
coordinates of MNI152NLin2009cAsym, times in seconds. Every random step draws from the generator that it is given.
"""
