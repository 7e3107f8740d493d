"""TemplateFlow's files, as far as they are already on this machine.

The folder is read by its naming rules, without the package ``templateflow``: importing that creates and
fills TEMPLATEFLOW_HOME, and asking it for a file may download it. Nothing is written or fetched here.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from bids_parcellate.errors import DataError, MissingInputError, UsageError
from bids_parcellate.io.content import require_content
from bids_parcellate.io.images import read_volume
from bids_parcellate.io.masking import Mask, compute_mask
from bids_parcellate.numerics.grids import Grid
from bids_parcellate.numerics.resampling import resample

_EXTENSION = ".nii.gz"

# What the file of each mask strategy is named: desc, label, suffix.
_FILES: dict[str, dict[str, str]] = {
    "whole-brain-template": {"desc": "brain", "suffix": "mask"},
    "gm-template": {"label": "GM", "suffix": "probseg"},
    "wm-template": {"label": "WM", "suffix": "probseg"},
}


def templateflow_home() -> Path:
    """Tell where TemplateFlow keeps its files.

    Returns
    -------
    Path
        The folder that the environment variable TEMPLATEFLOW_HOME names, else the user's cache.
    """
    return Path(os.environ.get("TEMPLATEFLOW_HOME") or platformdirs.user_cache_dir("templateflow")).absolute()


def find_template(
    space: str,
    *,
    suffix: str,
    atlas: str | None = None,
    desc: str | None = None,
    label: str | None = None,
    resolution: int | None = None,
    cohort: int | None = None,
) -> Path:
    """Find a volume of a template in TEMPLATEFLOW_HOME.

    Parameters
    ----------
    space : str
        The template, such as "MNI152NLin2009cAsym".
    suffix : str
        Such as "mask", "probseg" or "T1w".
    atlas, desc, label : str, optional
        These entities of the file name; a file that has an entity which is not given here is another file.
    resolution : int, optional
        TemplateFlow's index of the resolution (``res-``). By default the lowest there is, which is the finest.
    cohort : int, optional
        TemplateFlow's index of the cohort, for templates of several age groups.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    MissingInputError
        If it is not there with its content; the message says how to fetch it.
    """
    optional = {"cohort": cohort, "atlas": atlas, "label": label, "desc": desc}
    wanted = {key: str(value) for key, value in optional.items() if value is not None} | {"suffix": suffix}
    folder = templateflow_home() / f"tpl-{space}"
    if cohort is not None:
        folder /= f"cohort-{cohort}"
    found: dict[int, Path] = {}
    for path in folder.glob(f"tpl-{space}*_{suffix}{_EXTENSION}"):
        entities = _entities(path)
        index = entities.pop("res", "0")
        if entities == wanted and index.isdigit() and resolution in (None, int(index)):
            found[int(index)] = path
    for _, path in sorted(found.items()):
        if _has_content(path):
            return path
    raise _not_found(space, folder, wanted, resolution)


def template_mask(
    space: str,
    strategy: str,
    grid: Grid,
    *,
    resolution: int | None = None,
    cohort: int | None = None,
    mask_args: Mapping[str, float] | None = None,
) -> Mask:
    """Make a mask on a grid from a template's brain mask or tissue probability.

    Parameters
    ----------
    space : str
        The template, such as "MNI152NLin2009cAsym"; the data must lie in this space.
    strategy : {"whole-brain-template", "gm-template", "wm-template"}
        The brain mask, or the probability of grey or of white matter.
    grid : Grid
        Where voxels are wanted; the template is resampled there (trilinear) before its threshold.
    resolution, cohort : int, optional
        As in `find_template`.
    mask_args : mapping, optional
        Arguments of `bids_parcellate.io.masking.compute_template_mask`, by name.

    Returns
    -------
    Mask
        The voxels of the tissue.

    Raises
    ------
    UsageError
        If the strategy or one of its arguments is not offered.
    MissingInputError
        If the template is not on this machine.
    DataError
        If its file cannot be used, or holds no voxel of the grid.
    """
    if strategy not in _FILES:
        raise UsageError(f"template mask {strategy!r} is none of {', '.join(_FILES)}")
    path = find_template(space, resolution=resolution, cohort=cohort, **_FILES[strategy])
    template, source = read_volume(path)
    resampled = resample(template, source, grid, interpolation="linear")
    try:
        return Mask(compute_mask(resampled, strategy, mask_args), grid)
    except DataError as error:
        raise DataError(f"{path}, resampled to the data: {error.message}", error.hint) from error


def _entities(path: Path) -> dict[str, str]:
    """Split a name such as ``tpl-A_res-01_desc-brain_mask.nii.gz`` into its suffix and entities but the first."""
    _, *pairs, suffix = path.name.removesuffix(_EXTENSION).split("_")
    entities = {key: value for key, _, value in (pair.partition("-") for pair in pairs)}
    return {**entities, "suffix": suffix}


def _has_content(path: Path) -> bool:
    """Tell files from the empty ones that TemplateFlow keeps in their place, and from git-annex links."""
    try:
        require_content(path)
    except MissingInputError:
        return False
    return path.stat().st_size > 0


def _not_found(space: str, folder: Path, wanted: dict[str, str], resolution: int | None) -> MissingInputError:
    described = ", ".join(f"{key}={value!r}" for key, value in wanted.items())
    if resolution is not None:
        described += f", resolution={resolution}"
    return MissingInputError(
        f"{folder} holds no file with {described} (or only an empty one in its place)",
        f"where there is a network, fetch it: TEMPLATEFLOW_HOME={templateflow_home()} python -c "
        f'"from templateflow import api; api.get({space!r}, {described}, extension={_EXTENSION!r})"; '
        "or set TEMPLATEFLOW_HOME to a folder that holds it (in a container: mount that folder)",
    )
