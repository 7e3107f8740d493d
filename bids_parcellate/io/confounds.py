"""fMRIPrep's tables of confounds: which columns are regressed out, and which volumes are censored.

The choice of columns, their values and the kept volumes are those of nilearn's ``load_confounds``; where that
fails or silently takes nothing, :func:`load_confounds` says what is missing and which strategies would work.
"""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bids_parcellate.errors import DataError, MissingInputError
from bids_parcellate.io.strategies import PRESETS, CompCorVariant, ConfoundStrategy, ExpansionModel, is_pattern
from bids_parcellate.io.tables import Column, join_tables, read_table

OUTLIER_REASONS = ("non_steady_state", "framewise_displacement", "std_dvars", "short_segment")
"""Why a volume is censored; a volume can have several reasons."""

_LISTED = 24  # names that an error message lists at most

_MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
_SUFFIXES: Mapping[ExpansionModel, tuple[str, ...]] = {
    "basic": ("",),
    "power2": ("", "_power2"),
    "derivatives": ("", "_derivative1"),
    "full": ("", "_derivative1", "_power2", "_derivative1_power2"),
}

# Prefix of the column names, and the mask that the sidecar must name. Until fMRIPrep 20.2 the components of all
# masks are numbered in one list, a_comp_cor; since 21.0 those of white matter (w) and CSF (c) have their own.
_COMPCOR_SETS: Mapping[CompCorVariant, tuple[tuple[str, str | None], ...]] = {
    "temporal": (("t", None),),
    "anat_combined": (("a", "combined"),),
    "anat_separated": (("a", "WM"), ("a", "CSF"), ("w", None), ("c", None)),
    "temporal_anat_combined": (("t", None), ("a", "combined")),
    "temporal_anat_separated": (("t", None), ("a", "WM"), ("a", "CSF"), ("w", None), ("c", None)),
}

_HINTS = {
    "high_pass": "fMRIPrep writes no cosine columns for runs shorter than 128 s; leave 'high_pass' out of a strategy "
    "file and remove drifts with --high-pass and --detrend",
    "compcor": "fMRIPrep writes CompCor components since 1.4; leave 'compcor' out of a strategy file",
    "ica_aroma": "fMRIPrep has no ICA-AROMA since 23.1; run fMRIPost-AROMA and add its output as derivatives (only "
    "that has 'aroma_orth_motion_' columns; 'ica_aroma = \"basic\"' in a strategy file takes 'aroma_motion_' columns)",
    "scrub": "a threshold of inf in a strategy file does not look at its column",
    "columns": "correct 'columns' in the strategy file",
}


@dataclass(frozen=True, eq=False)
class Confounds:
    """The confounds of one run: regressors, and volumes to censor.

    Attributes
    ----------
    names : tuple of str
        Names of the regressors, sorted.
    values : ndarray of shape (n_volumes, n_columns), float64
        The regressors at all volumes, censored ones too.
    outliers : mapping of str to ndarray of shape (n_volumes,), bool
        For each of :data:`OUTLIER_REASONS`, the volumes that it censors.
    framewise_displacement : ndarray of shape (n_volumes,), float64, or None
        In mm, NaN where not stated; None where the table has no such column.
    std_dvars : ndarray of shape (n_volumes,), float64, or None
        Standardised DVARS, NaN where not stated; None where the table has no such column.
    path : Path or None
        The table that all this comes from.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    outliers: Mapping[str, NDArray[np.bool_]]
    framewise_displacement: NDArray[np.float64] | None = None
    std_dvars: NDArray[np.float64] | None = None
    path: Path | None = None

    @classmethod
    def empty(cls, n_volumes: int) -> Self:
        """Make the confounds of a run that has no table: no regressors, and every volume kept.

        Parameters
        ----------
        n_volumes : int
            Number of volumes of the run.

        Returns
        -------
        Confounds
            With values of shape (n_volumes, 0).
        """
        none = {reason: np.zeros(n_volumes, dtype=bool) for reason in OUTLIER_REASONS}
        return cls(names=(), values=np.empty((n_volumes, 0)), outliers=none)

    @property
    def n_volumes(self) -> int:
        """Number of volumes, censored ones too."""
        return len(self.values)

    @property
    def sample_mask(self) -> NDArray[np.int64] | None:
        """Indices of the kept volumes; None where all are kept."""
        return None if self.kept.all() else np.flatnonzero(self.kept).astype(np.int64)

    def demeaned(self) -> Self:
        """Subtract from each regressor its mean over the kept volumes.

        Returns
        -------
        Confounds
            With new values; with the same where no volume is kept.
        """
        mask = self.sample_mask
        kept = self.values if mask is None else self.values[mask]
        return replace(self, values=self.values - kept.mean(axis=0)) if len(kept) else self

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Volumes that are kept, shape (n_volumes,)."""
        kept: NDArray[np.bool_] = ~np.any(list(self.outliers.values()), axis=0)
        return kept

    @property
    def mean_framewise_displacement(self) -> float:
        """Mean framewise displacement of the kept volumes in mm; NaN where it is not known."""
        if self.framewise_displacement is None:
            return math.nan
        stated = self.framewise_displacement[self.kept & np.isfinite(self.framewise_displacement)]
        return float(stated.mean()) if stated.size else math.nan

    def check_rows(self, n_volumes: int, image: Path) -> None:
        """Make sure that the table has one row for each volume of the image.

        Parameters
        ----------
        n_volumes : int
            Number of volumes of the image.
        image : Path
            The image, for the message.

        Raises
        ------
        DataError
            The numbers differ.
        """
        if self.n_volumes != n_volumes:
            raise DataError(
                f"{self.path} has {self.n_volumes} rows, but {image} has {n_volumes} volumes",
                "they belong to different runs, or one of them is incomplete: run the preprocessing of this run again",
            )


def load_confounds(
    tsv: Path,
    strategy: ConfoundStrategy,
    *,
    sidecar: Path | None = None,
    extra_tables: Sequence[Path] = (),
    fmriprep_version: str | None = None,
) -> Confounds:
    """Read what a strategy takes from a run's table of confounds.

    A missing value in the first row (fMRIPrep has no derivative there) is replaced by the value in the second.

    Parameters
    ----------
    tsv : Path
        ``desc-confounds_timeseries.tsv`` (``_regressors.tsv`` before fMRIPrep 20.2).
    strategy : ConfoundStrategy
        What to take.
    sidecar : Path, optional
        The table's JSON file. CompCor needs it.
    extra_tables : sequence of Path, optional
        Further tables with the same rows, such as fMRIPost-AROMA's ``desc-aroma_timeseries.tsv``.
    fmriprep_version : str, optional
        For error messages.

    Returns
    -------
    Confounds
        Where every volume is censored, its ``sample_mask`` is empty and its values are not demeaned.

    Raises
    ------
    DataError
        A file is no valid table, lacks columns that the strategy needs, or has values that cannot be used.
    MissingInputError
        A file does not exist or cannot be read.

    References
    ----------
    Wang et al. (2024), "Continuous evaluation of denoising strategies in resting-state fMRI connectivity using
    fMRIPrep and Nilearn", PLOS Computational Biology 20(3): e1011942.
    """
    columns = join_tables([read_table(path) for path in (tsv, *extra_tables)])
    metadata = _read_sidecar(tsv, sidecar) if "compcor" in strategy.strategy else {}
    wanted = _wanted_columns(strategy, columns, metadata)
    if missing := _missing(wanted, columns):
        raise _missing_columns_error(tsv, missing, columns, metadata, fmriprep_version)
    names = tuple(sorted({name for part, found in wanted.items() if part != "scrub" for name in found}))
    confounds = Confounds(
        names=names,
        values=np.column_stack([np.empty((_n_rows(columns), 0)), *(_read_regressor(columns[name]) for name in names)]),
        outliers=_find_outliers(strategy, columns),
        framewise_displacement=_read_if_present("framewise_displacement", columns),
        std_dvars=_read_if_present("std_dvars", columns),
        path=tsv,
    )
    return confounds.demeaned() if strategy.demean else confounds


def short_segments(outliers: NDArray[np.bool_], min_length: int) -> NDArray[np.bool_]:
    """Find the kept volumes whose stretch between outliers (or the run's ends) is too short.

    Parameters
    ----------
    outliers : ndarray of shape (n_volumes,), bool
        Volumes that are censored for their own sake. Where there are none, no segment is short.
    min_length : int
        Length, in volumes, from which on a stretch is long enough.

    Returns
    -------
    ndarray of shape (n_volumes,), bool
        Volumes of short stretches.

    References
    ----------
    Power et al. (2014), "Methods to detect, characterize, and remove motion artifact in resting state fMRI",
    NeuroImage 84, 320-341, doi:10.1016/j.neuroimage.2013.08.048.
    """
    short = np.zeros_like(outliers)
    if not outliers.any():
        return short
    kept = np.concatenate(([False], ~outliers, [False]))
    edges = np.flatnonzero(kept[1:] != kept[:-1])
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        short[start:stop] = stop - start < min_length
    return short


def _n_rows(columns: Mapping[str, Column]) -> int:
    return len(next(iter(columns.values())))


def _read_sidecar(tsv: Path, sidecar: Path | None) -> Mapping[str, Any]:
    if sidecar is None:
        raise DataError(
            f"{tsv} has no JSON file, which says what its CompCor components are",
            "fMRIPrep writes it since 1.4: copy it too, or choose a strategy without compcor",
        )
    try:
        metadata = json.loads(sidecar.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise MissingInputError(f"{sidecar} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{sidecar} is no valid JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise DataError(f"{sidecar} describes no columns: it holds a {type(metadata).__name__}, not an object")
    return metadata


def _wanted_columns(
    strategy: ConfoundStrategy, available: Collection[str], metadata: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    """List the columns of each part of a strategy; where a pattern matches none, the pattern stands for them."""
    columns_of = {
        "motion": _expand(_MOTION, strategy.motion),
        "wm_csf": _expand(("csf", "white_matter"), strategy.wm_csf),
        "global_signal": _expand(("global_signal",), strategy.global_signal),
        "high_pass": _containing("cosine", available) or ("cosine*",),
        "compcor": _compcor_columns(strategy, metadata),
        "ica_aroma": _aroma_columns(strategy, available),
        "scrub": tuple(_scrub_thresholds(strategy)),
    }
    further = [_matching(entry, available) if is_pattern(entry) else (entry,) for entry in strategy.columns]
    return {part: columns_of[part] for part in strategy.strategy} | {"columns": tuple(chain.from_iterable(further))}


def _expand(signals: tuple[str, ...], model: ExpansionModel) -> tuple[str, ...]:
    return tuple(f"{signal}{suffix}" for signal in signals for suffix in _SUFFIXES[model])


def _containing(text: str, available: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in available if text in name)


def _matching(pattern: str, available: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in available if re.fullmatch(pattern, name)) or (pattern,)


def _compcor_columns(strategy: ConfoundStrategy, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    limit = None if strategy.n_compcor == "all" else strategy.n_compcor
    names: list[str] = []
    for prefix, mask in _COMPCOR_SETS[strategy.compcor]:
        found = [
            name
            for name, component in metadata.items()
            if re.fullmatch(rf"{prefix}_comp_cor_[0-9]+", name) and (mask is None or _is_of_mask(component, mask))
        ]
        names += sorted(found, key=lambda name: (len(name), name))[:limit]  # by number
    return tuple(names) or tuple(f"{prefix}_comp_cor_*" for prefix, _ in _COMPCOR_SETS[strategy.compcor])


def _is_of_mask(component: object, mask: str) -> bool:
    return isinstance(component, dict) and component.get("Mask") == mask


def _aroma_columns(strategy: ConfoundStrategy, available: Collection[str]) -> tuple[str, ...]:
    if strategy.ica_aroma == "full":
        return ()
    orthogonal = _containing("aroma_orth_motion", available)
    if strategy.ica_aroma == "orthaggr":
        return orthogonal or ("aroma_orth_motion_*",)
    return tuple(name for name in _containing("aroma", available) if name not in orthogonal) or ("aroma_motion_*",)


def _scrub_thresholds(strategy: ConfoundStrategy) -> dict[str, float]:
    thresholds = {
        "framewise_displacement": strategy.fd_threshold,
        "std_dvars": strategy.std_dvars_threshold,
    }
    return {name: threshold for name, threshold in thresholds.items() if np.isfinite(threshold)}


def _missing(wanted: Mapping[str, tuple[str, ...]], available: Collection[str]) -> dict[str, list[str]]:
    missing = {part: [name for name in names if name not in available] for part, names in wanted.items()}
    return {part: names for part, names in missing.items() if names}


def _missing_columns_error(
    tsv: Path,
    missing: Mapping[str, list[str]],
    columns: Mapping[str, Column],
    metadata: Mapping[str, Any],
    fmriprep_version: str | None,
) -> DataError:
    names = list(chain.from_iterable(missing.values()))
    listed = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
    version = f" of fMRIPrep {fmriprep_version}" if fmriprep_version else ""
    workable = [
        name
        for name, preset in PRESETS.items()
        if not preset.needs_aroma_image and not _missing(_wanted_columns(preset, columns, metadata), columns)
    ]
    hints = [_hint(part, names) for part, names in missing.items()]
    if "FramewiseDisplacement" in columns:
        hints = ["the header is that of fMRIPrep 1.0 or 1.1, but at least 1.2 is needed"]
    return DataError(
        f"{tsv}{version} lacks columns that the confound strategy needs ({', '.join(missing)}): {listed}",
        "; ".join([*hints, f"presets that this file has the columns of: {', '.join(workable)}"]),
    )


def _hint(part: str, missing: list[str]) -> str:
    if all(name.endswith(("_derivative1", "_power2")) for name in missing):
        return f"'{part} = \"basic\"' in a strategy file does without derivatives and squares"
    return _HINTS.get(part, f"leave {part!r} out of a strategy file")


def _read_complete(column: Column) -> NDArray[np.float64]:
    """Read a column in which only the first row may be n/a."""
    values = column.to_numbers()
    missing = np.flatnonzero(np.isnan(values[1:])) + 2
    if missing.size:
        raise DataError(
            f"{column.path}: column {column.name!r} has no value (n/a) in row {missing[0]}",
            "only the first row may have none; leave the column out of the strategy, or run the preprocessing again",
        )
    return values


def _read_regressor(column: Column) -> NDArray[np.float64]:
    """Read a column, with the second value in place of a missing first one."""
    values = _read_complete(column)
    if np.isnan(values[0]):
        if len(values) == 1:
            raise DataError(f"{column.path}: column {column.name!r} has no value (n/a) in its only row")
        values[0] = values[1]
    return values


def _read_if_present(name: str, columns: Mapping[str, Column]) -> NDArray[np.float64] | None:
    return columns[name].to_numbers() if name in columns else None


def _find_outliers(strategy: ConfoundStrategy, columns: Mapping[str, Column]) -> dict[str, NDArray[np.bool_]]:
    outliers = {reason: np.zeros(_n_rows(columns), dtype=bool) for reason in OUTLIER_REASONS}
    for name in _containing("non_steady_state", columns):
        outliers["non_steady_state"] |= _read_complete(columns[name]) > 0
    if "scrub" in strategy.strategy:
        for name, threshold in _scrub_thresholds(strategy).items():
            outliers[name] = _read_complete(columns[name]) > threshold  # false for a missing first value
        moved = outliers["framewise_displacement"] | outliers["std_dvars"]
        outliers["short_segment"] = short_segments(moved, strategy.scrub)
    return outliers
