"""Clustering methods to learn a brain parcellation from fMRI: the story of nilearn's gallery example, on other data.

    python docs/examples/clustering_methods.py IMAGE OUTPUT_FOLDER

IMAGE is a preprocessed run. The pictures of ``docs/from-nilearn.md`` were made from
``twosub_mni4mm/sub-ds205s03`` of the test data (OpenNeuro ds000205).
"""

import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.colors import ListedColormap
from nilearn import plotting
from nilearn.image import index_img, mean_img

from bids_parcellate import Parcellations  # nilearn: from nilearn.regions import Parcellations

image, folder = sys.argv[1], Path(sys.argv[2])

# Ward: spatially constrained, fast, also for many parcels.
start = time.time()
ward = Parcellations(
    method="ward",
    n_parcels=1000,
    standardize=False,
    smoothing_fwhm=2.0,
    mask_strategy="epi",
    verbose=0,
)
ward.fit(image)
sys.stdout.write(f"Ward, 1000 parcels: {time.time() - start:.2f} s\n")

mean_func_img = mean_img(image, copy_header=True)
cut_coords = (0, -20, 8)
# Labels are numbered from place to place; colours in any order tell neighbours apart.
colors = ListedColormap(np.random.default_rng(0).random((256, 3)))
options = {"cut_coords": cut_coords, "bg_img": mean_func_img, "colorbar": False, "cmap": colors}
plotting.plot_roi(ward.labels_img_, title="Ward, 1000 parcels", output_file=folder / "ward.png", **options)

# Compress the data to parcels and back.
fmri_reduced = ward.transform(image)
fmri_compressed = ward.inverse_transform(fmri_reduced)
n_voxels = int(np.count_nonzero(ward.mask_img_.get_fdata()))
sys.stdout.write(f"{n_voxels} voxels are compressed to {fmri_reduced.shape[1]} parcels\n")
vmin, vmax = np.percentile(nib.load(image).get_fdata(), [2, 98])
for name, picture in (("original", index_img(image, 0)), ("compressed", index_img(fmri_compressed, 0))):
    plotting.plot_epi(
        picture,
        cut_coords=cut_coords,
        title=f"{name} volume ({n_voxels if name == 'original' else 1000} values)",
        vmin=vmin,
        vmax=vmax,
        output_file=folder / f"{name}.png",
    )

# K-means: for few parcels; here with strong smoothing and standardized signals.
for method, n_parcels, smoothing in (("kmeans", 50, 10.0), ("hierarchical_kmeans", 50, 10.0), ("rena", 2000, 2.0)):
    start = time.time()
    model = Parcellations(
        method=method,
        n_parcels=n_parcels,
        standardize="zscore_sample",
        smoothing_fwhm=smoothing,
        mask_strategy="epi",
        scaling=True,
        verbose=0,
    )
    model.fit(image)
    sys.stdout.write(f"{method}, {n_parcels} parcels: {time.time() - start:.2f} s\n")
    title = f"{method}, {n_parcels} parcels"
    plotting.plot_roi(model.labels_img_, title=title, output_file=folder / f"{method}.png", **options)
