"""bids-parcellate on brainlife: files named in config.json in, brainlife's datatypes and product.json out."""

import csv
import gzip
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bids_parcellate.cli import main as bids_parcellate

DATASET, OUTPUT = Path("bids"), Path("output")

# Keys of config.json that are options of the command line, spelled with hyphens.
OPTIONS = ("method", "confounds", "smoothing_fwhm", "fd_threshold", "low_pass", "high_pass", "min_volumes")

# Keys of config.json that hold files, one for each run, and how fMRIPrep names them.
FILES = {
    "bold": "_space-{space}_desc-preproc_bold.nii.gz",
    "mask": "_space-{space}_desc-brain_mask.nii.gz",
    "regressors": "_desc-confounds_timeseries.tsv",
    "regressors_json": "_desc-confounds_timeseries.json",
}


def stage(config: Mapping[str, Any]) -> None:
    """Link the files into a dataset as fMRIPrep would have made it."""
    description = {
        "Name": "brainlife",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "brainlife"}],
    }
    DATASET.mkdir()
    (DATASET / "dataset_description.json").write_text(json.dumps(description))
    metadata = [each.get("meta", {}) for each in config.get("_inputs", []) if each.get("id") == "bold"]
    for index, bold in enumerate(as_list(config["bold"])):
        meta = metadata[index] if index < len(metadata) else {}
        stem = name_run(meta, index)
        folder = DATASET.joinpath(*(part for part in stem.split("_") if part[:4] in ("sub-", "ses-")), "func")
        folder.mkdir(parents=True, exist_ok=True)
        for key, ending in FILES.items():
            files = as_list(config.get(key))
            if index < len(files):
                (folder / (stem + ending.format(space=config["space"]))).symlink_to(Path(files[index]).resolve())
        if "RepetitionTime" in meta:
            sidecar = folder / (stem + FILES["bold"].format(space=config["space"]).replace(".nii.gz", ".json"))
            sidecar.write_text(json.dumps({"RepetitionTime": meta["RepetitionTime"]}))
        sys.stderr.write(f"{bold} is {stem}\n")


def as_list(value: object) -> list[str]:
    """Take one file, several or none."""
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def name_run(meta: Mapping[str, Any], index: int) -> str:
    """Name a run by what brainlife knows of it; the number of the run keeps names apart."""
    entities = {
        "sub": meta.get("subject", f"{index + 1:02d}"),
        "ses": meta.get("session"),
        "task": meta.get("task", "unknown"),
        "run": index + 1,
    }
    labels = {key: re.sub("[^A-Za-z0-9]", "", str(value)) for key, value in entities.items() if value not in (None, "")}
    return "_".join(f"{key}-{label}" for key, label in labels.items())


def arguments(config: Mapping[str, Any]) -> list[str]:
    """Make the command line."""
    n_parcels = [str(number) for number in as_list(config.get("n_parcels", 100))]
    if len(n_parcels) != 1:
        raise SystemExit("config.json: n_parcels must be one number: brainlife's parcellations have one image")
    given = {name: config.get(name) for name in OPTIONS}
    options = [item for name, value in given.items() if value not in (None, "") for item in (flag(name), str(value))]
    cores = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("PBS_NUM_PPN")
    return [
        *(str(DATASET), str(OUTPUT), "group", "--space", config["space"], "--n-parcels", *n_parcels, *options),
        *(("--nprocs", cores) if cores else ()),
    ]


def flag(name: str) -> str:
    """Spell an option."""
    return "--" + name.replace("_", "-")


def collect() -> list[dict[str, str]]:
    """Copy the outputs to the folders of brainlife's datatypes; give the rows of the parcels' table."""
    (image,) = OUTPUT.glob("tpl-*/anat/*_dseg.nii.gz")
    with image.with_name(image.name.replace(".nii.gz", ".tsv")).open() as file:
        parcels = list(csv.DictReader(file, delimiter="\t"))
    labels = [
        {"name": row["name"], "label": row["index"], "voxel_value": int(row["index"]), "desc": row["name"]}
        for row in parcels
    ]
    folder = Path("parcellation")
    folder.mkdir()
    shutil.copyfile(image, folder / "parc.nii.gz")
    write_json(folder / "label.json", labels)
    key = "{index}\t->\t{index}\t== {name}\n"
    (folder / "key.txt").write_text("".join(key.format_map(row) for row in parcels))
    tables = sorted(OUTPUT.glob("sub-*/**/*_timeseries.tsv"))
    for series in tables:
        collect_series(series, labels, Path("timeseries") / (run_of(series) if len(tables) > 1 else ""))
    collect_matrices(labels)
    return parcels


def run_of(path: Path) -> str:
    """Name the run of an output."""
    return path.name.partition("_space-")[0].partition("_atlas-")[0]


def collect_series(series: Path, labels: list[dict[str, Any]], folder: Path) -> None:
    """Write the time series of one run."""
    folder.mkdir(parents=True)
    with gzip.GzipFile(folder / "timeseries.tsv.gz", "wb", mtime=0) as file:
        file.write(series.read_bytes())
    write_json(folder / "label.json", labels)


def collect_matrices(labels: list[dict[str, Any]]) -> None:
    """Write the correlations of all runs as one network with several measures."""
    folder, index = Path("conmat"), []
    (folder / "csv").mkdir(parents=True)
    for matrix in sorted(OUTPUT.glob("sub-*/**/*_relmat.tsv")):
        target = folder / "csv" / f"{run_of(matrix)}_correlation.csv"
        with matrix.open() as source, target.open("w", newline="") as file:
            rows = list(csv.reader(source, delimiter="\t"))[1:]
            csv.writer(file, lineterminator="\n").writerows(row[1:] for row in rows)
        index.append(
            {
                "filename": f"csv/{target.name}",
                "name": f"correlation of {run_of(matrix)}",
                "unit": "Pearson's r",
                "desc": "Correlations between the denoised signals of the parcels",
            }
        )
    write_json(folder / "index.json", index)
    write_json(folder / "label.json", [{"name": "self-loop", "desc": "index(x,x) is the diagonal"}, *labels])


def write_json(path: Path, content: object) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, indent=2) + "\n")


def main() -> int:
    """Run the app in the current folder."""
    config = json.loads(Path(sys.argv[1]).read_text())
    for folder in (DATASET, OUTPUT, Path("parcellation"), Path("timeseries"), Path("conmat")):
        shutil.rmtree(folder, ignore_errors=True)
    stage(config)
    code = bids_parcellate(arguments(config))
    if code != 0:
        write_json(Path("product.json"), {"brainlife": [{"type": "error", "msg": f"ended with exit code {code}"}]})
        return code
    parcels = collect()
    message = f"{len(parcels)} parcels of {len(as_list(config['bold']))} runs; the report is output/group.html"
    tags = [config.get("method", "ward"), f"{len(parcels)} parcels"]
    meta = {"n_parcels": len(parcels), "space": config["space"]}
    write_json(
        Path("product.json"),
        {"brainlife": [{"type": "success", "msg": message}], "tags": tags, "datatype_tags": tags[:1], "meta": meta},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
