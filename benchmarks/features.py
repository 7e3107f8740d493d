"""Which features make better parcels: held-out explained variance and split-half agreement on real data.

    python benchmarks/features.py DATASET [--parcels 20 50 100]

DATASET holds runs of one participant, such as ``haxby2001_1slice`` of the test data (12 runs, one slice). Odd and even
runs are the two halves: parcels are fitted on one and scored on the other, both ways. Prints a Markdown table: mean
share of the variance of held-out voxels that parcels explain, adjusted Rand index between the two fits, and the share
of voxels in the largest parcel (a giant parcel agrees with itself, and explains nothing).
"""

import argparse
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from sklearn.metrics import adjusted_rand_score

from bids_parcellate import Parcellations
from bids_parcellate.config import METHODS


def evaluate(halves: list[list[str]], mask: nib.Nifti1Image, **parameters: object) -> tuple[float, float, float]:
    """Fit on each half, score on the other."""
    models = [
        Parcellations(mask=mask, standardize="zscore_sample", detrend=True, smoothing_fwhm=4.0, **parameters).fit(half)
        for half in halves
    ]
    explained = np.mean([model.score(half) for model, half in zip(models, halves[::-1], strict=True)])
    agreement = adjusted_rand_score(models[0].labels_, models[1].labels_)
    largest = np.mean([model.sizes_.max() / model.sizes_.sum() for model in models])
    return float(explained), float(agreement), float(largest)


def main() -> None:
    """Evaluate all methods with both kinds of features."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--parcels", type=int, nargs="+", default=[20, 50, 100])
    options = parser.parse_args()
    images = sorted(map(str, options.dataset.rglob("*_desc-preproc_bold.nii.gz")))
    masks = [nib.load(path) for path in sorted(options.dataset.rglob("*_desc-brain_mask.nii.gz"))]
    shared = np.all([each.get_fdata() > 0 for each in masks], axis=0).astype(np.uint8)
    mask = nib.Nifti1Image(shared, masks[0].affine)
    sys.stdout.write("| K | method | features | explained variance | split-half ARI | largest parcel |\n")
    sys.stdout.write("| --- | --- | --- | --- | --- | --- |\n")
    for n_parcels in options.parcels:
        for method in METHODS:
            for features in ("scaled", "nilearn"):
                figures = evaluate(
                    [images[::2], images[1::2]], mask, method=method, n_parcels=n_parcels, features=features
                )
                row = " | ".join(f"{figure:.3f}" for figure in figures)
                sys.stdout.write(f"| {n_parcels} | {method} | {features} | {row} |\n")


if __name__ == "__main__":
    main()
