"""Sound files, from which the coverage-guided fuzzer starts."""

import gzip
import json
from collections.abc import Sequence

import nibabel as nib
import numpy as np

from bids_parcellate.config import build_config
from bids_parcellate.io.strategies import PRESETS


def images() -> list[bytes]:
    """Make small images of both kinds."""
    voxels = np.arange(24, dtype=np.int16).reshape(2, 2, 2, 3)
    return [kind(voxels, np.eye(4)).to_bytes() for kind in (nib.Nifti1Image, nib.Nifti2Image)]


def seeds(target: str) -> Sequence[bytes]:
    """Give sound inputs of a target."""
    objects = {
        "compcor": {"a_comp_cor_00": {"Mask": "combined", "Method": "aCompCor"}},
        "sidecar": {"RepetitionTime": 2.0, "VolumeTiming": [0, 2]},
        "description": {
            "Name": "x",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "fMRIPrep", "Version": "1"}],
        },
        "strategy_json": PRESETS["compcor"].model_dump(mode="json"),
        "filter_file": {"bold": {"task": ["rest"], "run": 1, "acquisition": None}, "t1w": {}},
    }
    if target in objects:
        return [json.dumps(objects[target]).encode()]
    job = build_config({"bids_dir": "/in", "output_dir": "/out", "analysis_level": "group"})
    texts = {
        "table": [b"a\tb\n1\tn/a\n0.5\t2\n", b'"a"\tb\r\n1e3\t-2\r\n'],
        "confounds": [b"cosine00\ttrans_x\n1\t2\nn/a\t3\n"],
        "strategy_toml": [b'strategy = ["motion", "scrub"]\nfd_threshold = 0.2\ncolumns = ["^a.*$"]\n'],
        "configuration": [job.to_toml().encode()],
        "file_name": [b"sub-01_ses-1_task-rest_run-01_space-MNI_desc-preproc_bold.nii.gz"],
        "header": images(),
        "image": [*images(), *(gzip.compress(image, 1) for image in images())],
    }
    return texts[target]
