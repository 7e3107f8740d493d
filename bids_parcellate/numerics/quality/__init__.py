"""Is a parcellation any good? Figures that are computed run by run from reductions, beside what chance would give.

Arrays and plain numbers only. In all of this package, labels are the parcels of voxels, numbered from 1, and 0 means
that a voxel has none, as in label images. Features have one column for each voxel: a run's components times their
singular values, in which sums of squares and correlations are those of its signals, as far as it was reduced to them.
Figures of runs are added up, so that no run is needed twice and memory does not grow with their number.
"""
