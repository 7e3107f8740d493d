"""The report of a masker: its mask on slices of an image."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bids_parcellate.io.masking import Mask
from bids_parcellate.parcels.atlas import paint
from bids_parcellate.report.drawings import draw_slices
from bids_parcellate.report.pages import Drawing, PageContent, render_report
from bids_parcellate.report.slices import cut_parcels
from bids_parcellate.version import __version__

_LIBRARIES = ("numpy", "scipy", "nibabel")


@dataclass(frozen=True)
class MaskContent(PageContent):
    """What the report of a mask shows.

    Parameters
    ----------
    title, subtitle, versions
        As in `PageContent`.
    facts : Mapping of str to str
        Key figures.
    slices : Drawing
        Slices through it.
    parameters : Mapping of str to object
        What it was made with.
    """

    template: ClassVar[str] = "mask.html.jinja"

    facts: Mapping[str, str]
    slices: Drawing
    parameters: Mapping[str, object]


def render_mask_report(
    mask: Mask, *, title: str, parameters: Mapping[str, object], background: npt.NDArray[Any] | None = None
) -> str:
    """Make the report of a mask.

    Parameters
    ----------
    mask : Mask
        The mask.
    title : str
        Heading.
    parameters : Mapping of str to object
        What it was made with.
    background : ndarray of shape (X, Y, Z), optional
        What is drawn in grey below the mask, on its grid.

    Returns
    -------
    str
        HTML: one file that holds all it needs.
    """
    libraries = {name: version(name) for name in _LIBRARIES}
    return render_report(
        MaskContent(
            title=title,
            subtitle=f"{mask.n_voxels:,} voxels",
            versions={"bids-parcellate": __version__, "Python": platform.python_version(), **libraries},
            facts=_facts(mask),
            slices=_slices(mask, background),
            parameters=parameters,
        )
    )


def _facts(mask: Mask) -> dict[str, str]:
    grid = mask.grid
    millilitres = mask.n_voxels * abs(np.linalg.det(grid.affine[:3, :3])) / 1000
    return {
        "Voxels": f"{mask.n_voxels:,}",
        "Volume": f"{millilitres:,.1f} ml",
        "Share of the grid": f"{mask.n_voxels / mask.data.size:.0%}",
        "Grid": " x ".join(f"{size:,}" for size in grid.shape),
        "Voxel size": " x ".join(f"{size:g}" for size in grid.voxel_sizes.round(2)) + " mm",
    }


def _slices(mask: Mask, background: npt.NDArray[Any] | None) -> Drawing:
    whole = paint(np.zeros(mask.n_voxels, dtype=np.int32), mask)
    below = "" if background is None else ", over the first volume of the first image"
    return Drawing(
        kind="slices",
        label="Slices through the mask",
        markup=draw_slices(
            cut_parcels(whole, background=background), label="Axial, coronal and sagittal slices through the mask."
        ),
        caption=f"The mask in colour{below}. Left is left (neurological convention).",
    )
