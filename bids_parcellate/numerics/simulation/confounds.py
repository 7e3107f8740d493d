"""The confounds of a simulated run, estimated from its images and motion in the way fMRIPrep does.

Arrays and plain numbers only. Names of columns and keys are fMRIPrep's.

References
----------
Esteban et al. (2019), Nature Methods 16, 111-116, doi:10.1038/s41592-018-0235-4, and the page "Outputs" of its manual.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bids_parcellate.numerics.simulation.brain import Bool, Float
from bids_parcellate.numerics.simulation.run import SUDDEN, Array, framewise_displacement

Columns = dict[str, Array]

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
HIGH_PASS_PERIOD = 128.0  # s
DVARS_SPIKE = 1.5
_RETAINED_VARIANCE = 0.5
_MOST_VARIABLE = 0.02  # share of the brain that tCompCor looks at


@dataclass(frozen=True)
class Tissues:
    """Which of the voxels of a run fMRIPrep's masks hold, each an ndarray of bool, shape (V,)."""

    brain: Bool
    white: Bool
    csf: Bool


def estimate_confounds(
    bold: Float, tissues: Tissues, motion: Array, t_r: float, n_non_steady_state: int
) -> tuple[Columns, dict[str, dict[str, Any]]]:
    """Estimate the confounds of one run.

    Parameters
    ----------
    bold : ndarray of shape (T, V)
        Intensities.
    tissues : Tissues
        Masks over the V voxels.
    motion : ndarray of shape (T, 6)
        Translations (mm), rotations (rad).
    t_r : float
        Repetition time, s.
    n_non_steady_state : int
        Number of volumes at the start that are not in steady state.

    Returns
    -------
    columns : dict of ndarray of shape (T,)
        NaN in the first row where a value needs the volume before it.
    metadata : dict of dict
        What is said of the columns in their JSON file.
    """
    n_volumes = len(bold)
    change = framewise_displacement(motion)
    dvars, std_dvars = _dvars(bold[:, tissues.brain])
    cosines = cosine_drifts(n_volumes - n_non_steady_state, t_r)
    components, metadata = _comp_cor(bold, tissues, cosines, n_non_steady_state)
    columns = {
        **_expanded("global_signal", bold[:, tissues.brain].mean(1, dtype=np.float64)),
        **_expanded("csf", bold[:, tissues.csf].mean(1, dtype=np.float64)),
        **_expanded("white_matter", bold[:, tissues.white].mean(1, dtype=np.float64)),
        "csf_wm": bold[:, tissues.csf | tissues.white].mean(1, dtype=np.float64),
        "std_dvars": std_dvars,
        "dvars": dvars,
        "framewise_displacement": _after_first(change[1:]),
        **components,
        **_numbered("cosine", _padded(cosines, n_non_steady_state).T),
        **_numbered("non_steady_state_outlier", np.eye(n_volumes)[:n_non_steady_state]),
    }
    for name, parameter in zip(MOTION, motion.T, strict=True):
        columns |= _expanded(name, parameter)
        metadata[name] = {"Units": "mm" if name.startswith("trans") else "rad"}
    spikes = np.flatnonzero((change > SUDDEN) | (std_dvars > DVARS_SPIKE))
    columns |= _numbered("motion_outlier", np.eye(n_volumes)[spikes])
    return columns, metadata | {"framewise_displacement": {"Units": "mm"}}


def cosine_drifts(n_volumes: int, t_r: float) -> Array:
    """Make the cosines that span what is slower than 128 s, as fMRIPrep does.

    Parameters
    ----------
    n_volumes : int
        Number of volumes.
    t_r : float
        Repetition time, s.

    Returns
    -------
    ndarray of shape (n_volumes, n_cosines)
        Columns of unit norm; none for a short run.
    """
    order = int(2 * n_volumes * t_r / HIGH_PASS_PERIOD)
    phase = np.outer(np.arange(n_volumes) + 0.5, np.arange(1, order)) * np.pi / n_volumes
    return np.asarray(np.sqrt(2 / n_volumes) * np.cos(phase))


def _dvars(bold: Float) -> tuple[Array, Array]:
    """Root mean square change of intensity (median 1000), and the same in units of what chance alone gives."""
    scaled = bold * (1000 / np.median(bold))
    observed = np.sqrt(np.square(np.diff(scaled, axis=0)).mean(1, dtype=np.float64))
    quartiles = np.percentile(scaled, [25, 75], axis=0)
    centred = scaled - scaled.mean(0)
    autocorrelation = (centred[1:] * centred[:-1]).sum(0) / np.square(centred).sum(0)
    expected = (quartiles[1] - quartiles[0]) / 1.349 * np.sqrt(2 * (1 - autocorrelation))
    return _after_first(observed), _after_first(observed / expected.mean())


def _comp_cor(
    bold: Float, tissues: Tissues, cosines: Array, n_skipped: int
) -> tuple[Columns, dict[str, dict[str, Any]]]:
    """Anatomical and temporal CompCor: components of the noise regions after high-pass filtering."""
    steady = bold[n_skipped:]
    basis = np.linalg.qr(np.column_stack([np.ones(len(steady)), cosines]))[0].astype(np.float32)
    filtered = steady - basis @ (basis.T @ steady)
    spread = filtered.std(0)
    variable = tissues.brain & (spread >= np.quantile(spread[tissues.brain], 1 - _MOST_VARIABLE))
    regions: tuple[tuple[str, Bool, dict[str, str]], ...] = (
        ("t", variable, {"Method": "tCompCor"}),
        ("c", tissues.csf, {"Method": "aCompCor", "Mask": "CSF"}),
        ("w", tissues.white, {"Method": "aCompCor", "Mask": "WM"}),
        ("a", tissues.csf | tissues.white, {"Method": "aCompCor", "Mask": "combined"}),
    )
    columns: Columns = {}
    metadata: dict[str, dict[str, Any]] = {}
    for letter, region, description in regions:
        components, singular_values = _components(filtered[:, region] / spread[region])
        shares = singular_values**2 / np.sum(singular_values**2)
        n_retained = int(np.searchsorted(np.cumsum(shares), _RETAINED_VARIANCE)) + 1
        named = _numbered(f"{letter}_comp_cor_", _padded(components[:, :n_retained], n_skipped).T)
        columns |= named
        for index, name in enumerate(named):
            metadata[name] = description | {
                "Retained": True,
                "SingularValue": float(singular_values[index]),
                "VarianceExplained": float(shares[index]),
                "CumulativeVarianceExplained": float(shares[: index + 1].sum()),
            }
    return columns, metadata


def _components(signals: Float) -> tuple[Array, Array]:
    """Left singular vectors and singular values of (T, V) signals, through their (T, T) products."""
    variances, vectors = np.linalg.eigh((signals @ signals.T).astype(np.float64))
    return vectors[:, ::-1], np.sqrt(np.maximum(variances[::-1], 0))


def _expanded(name: str, values: Array) -> Columns:
    derivative = _after_first(np.diff(values))
    return {
        name: values,
        f"{name}_derivative1": derivative,
        f"{name}_power2": values**2,
        f"{name}_derivative1_power2": derivative**2,
    }


def _numbered(prefix: str, columns: Iterable[Array]) -> Columns:
    return {f"{prefix}{index:02d}": column for index, column in enumerate(columns)}


def _after_first(values: Array) -> Array:
    """Leave the first row without a value."""
    return np.concatenate([[np.nan], values])


def _padded(columns: Array, n_skipped: int) -> Array:
    """Put zeros before columns that were computed without the first volumes."""
    return np.pad(columns, ((n_skipped, 0), (0, 0)))
