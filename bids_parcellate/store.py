"""Reductions kept in the work folder, each under the digest of all that it depends on."""

import io
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_parcellate.files import write_atomically
from bids_parcellate.reduction import SignalReduction
from bids_parcellate.run_reduction import RunReduction, Units

logger = logging.getLogger(__name__)


class ReductionStore:
    """A folder of reductions. Any number of jobs may write to it at once.

    Parameters
    ----------
    folder : Path
        It is made when the first reduction is saved.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / f"{digest}.npz"

    def save(self, digest: str, run: RunReduction) -> Path:
        """Keep a reduction.

        Parameters
        ----------
        digest : str
            Of everything that it depends on.
        run : RunReduction
            The reduction.

        Returns
        -------
        Path
            The file: a plain ``.npz``, without pickles.
        """
        signals, units = run.signals, run.units
        buffer = io.BytesIO()
        np.savez(
            buffer,
            components=signals.components,
            singular_values=signals.singular_values,
            time_courses=signals.time_courses,
            n_volumes=np.int64(signals.n_volumes),
            total_variance=np.float64(signals.total_variance),
            voxels=run.voxels,
            kept=run.kept,
            mean_fd=np.float64(run.mean_fd),
            **({field.name: getattr(units, field.name) for field in fields(Units)} if units else {}),
        )
        return write_atomically(self._path(digest), buffer.getbuffer())

    def load(self, digest: str) -> RunReduction | None:
        """Find a reduction.

        Parameters
        ----------
        digest : str
            Of everything that it depends on.

        Returns
        -------
        RunReduction or None
            None if there is none, or if its file is damaged, which is logged.
        """
        path = self._path(digest)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                # Reading an array does not check it against its checksum; this does.
                if (damaged := arrays.zip.testzip()) is not None:
                    logger.warning("The stored reduction %s is damaged (%s) and is made anew.", path, damaged)
                    return None
                return _unpack(arrays)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("The stored reduction %s is damaged (%s) and is made anew.", path, error)
            return None

    def load_voxels(self, digest: str) -> npt.NDArray[np.int64]:
        """Read only the voxels of a reduction.

        Parameters
        ----------
        digest : str
            Of a reduction that ``load`` has found.

        Returns
        -------
        ndarray of int64, shape (n_voxels,)
            As in :class:`RunReduction`.
        """
        with np.load(self._path(digest), allow_pickle=False) as arrays:
            voxels: npt.NDArray[np.int64] = arrays["voxels"]
        return voxels


def _unpack(arrays: Mapping[str, npt.NDArray[Any]]) -> RunReduction:
    signals = SignalReduction(
        components=arrays["components"],
        singular_values=arrays["singular_values"],
        n_volumes=int(arrays["n_volumes"]),
        total_variance=float(arrays["total_variance"]),
        time_courses=arrays["time_courses"],
    )
    units = Units(*(arrays[field.name] for field in fields(Units))) if "centre" in arrays else None
    return RunReduction(signals, arrays["voxels"], units, arrays["kept"], float(arrays["mean_fd"]))
