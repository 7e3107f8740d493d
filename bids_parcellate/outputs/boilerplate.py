"""The methods of a job in prose, with their references: true to its configuration, free to be copied into a paper."""

from collections.abc import Sequence

from bids_parcellate.config import Config
from bids_parcellate.dataset import Run
from bids_parcellate.io.strategies import ConfoundStrategy
from bids_parcellate.version import __version__

_METHODS = {
    "ward": "Ward's minimum-variance clustering of neighbouring voxels (Ward 1963; Thirion et al. 2014)",
    "complete": "agglomerative clustering of neighbouring voxels with complete linkage",
    "average": "agglomerative clustering of neighbouring voxels with average linkage",
    "rena": "recursive nearest-neighbour agglomeration (ReNA; Hoyos-Idrobo et al. 2019)",
    "kmeans": "k-means clustering (Lloyd 1982)",
    "hierarchical_kmeans": "two-level k-means clustering (Lloyd 1982)",
}

_REFERENCES = {
    "ward": (
        "Ward JH (1963). Hierarchical grouping to optimize an objective function. J Am Stat Assoc 58:236-244.",
        "Thirion B, Varoquaux G, Dohmatob E, Poline JB (2014). Which fMRI clustering gives good brain parcellations? "
        "Front Neurosci 8:167.",
    ),
    "rena": (
        "Hoyos-Idrobo A, Varoquaux G, Kahn J, Thirion B (2019). Recursive nearest agglomeration (ReNA): fast "
        "clustering for approximation of structured signals. IEEE Trans Pattern Anal Mach Intell 41:669-681.",
    ),
    "kmeans": ("Lloyd S (1982). Least squares quantization in PCM. IEEE Trans Inf Theory 28:129-137.",),
    "hierarchical_kmeans": ("Lloyd S (1982). Least squares quantization in PCM. IEEE Trans Inf Theory 28:129-137.",),
}

_FMRIPREP_REFERENCE = (
    "Esteban O, Markiewicz CJ, Blair RW, Moodie CA, Isik AI, Erramuzpe A, Kent JD, Goncalves M, DuPre E, Snyder M, "
    "Oya H, Ghosh SS, Wright J, Durnez J, Poldrack RA, Gorgolewski KJ (2019). fMRIPrep: a robust preprocessing "
    "pipeline for functional MRI. Nat Methods 16:111-116."
)
_SHRINKAGE_REFERENCE = (
    "Ledoit O, Wolf M (2004). A well-conditioned estimator for large-dimensional covariance matrices. Journal of "
    "Multivariate Analysis 88:365-411."
)
_TANGENT_REFERENCE = (
    "Varoquaux G, Baronnet F, Kleinschmidt A, Fillard P, Thirion B (2010). Detection of brain functional-connectivity "
    "difference in post-stroke patients using group-level covariance modeling. MICCAI 2010, LNCS 6361:200-208."
)
_CENSORING_REFERENCE = (
    "Power JD, Barnes KA, Snyder AZ, Schlaggar BL, Petersen SE (2012). Spurious but systematic correlations in "
    "functional connectivity MRI networks arise from subject motion. NeuroImage 59:2142-2154."
)
_QUALITY_REFERENCES = (
    "Hubert L, Arabie P (1985). Comparing partitions. J Classif 2:193-218.",
    "Zhi D, King M, Hernandez-Castillo CR, Diedrichsen J (2022). Evaluating brain parcellations using the "
    "distance-controlled boundary coefficient. Hum Brain Mapp 43:3706-3720.",
)
_INDIVIDUAL_REFERENCE = (
    "Wang D, Buckner RL, Fox MD, Holt DJ, Holmes AJ, Stoecklein S, Langs G, Pan R, Qian T, Li K, Baker JT, Stufflebeam "
    "SM, Wang K, Wang X, Hong B, Liu H (2015). Parcellating cortical functional networks in individuals. Nat Neurosci "
    "18:1853-1860."
)
_FILTER_REFERENCE = (
    "Lindquist MA, Geuter S, Wager TD, Caffo BS (2019). Modular preprocessing pipelines can reintroduce artifacts into "
    "fMRI data. Hum Brain Mapp 40:2358-2376."
)


def methods_text(
    config: Config, strategy: ConfoundStrategy, runs: Sequence[Run], n_parcels: Sequence[int] | None = None
) -> str:
    """Describe what a group job did.

    Parameters
    ----------
    config : Config
        The configuration.
    strategy : ConfoundStrategy
        The denoising.
    runs : sequence of Run
        The runs that were used; at least one.
    n_parcels : sequence of int, optional
        Numbers of parcels that were made, where one of several was chosen.

    Returns
    -------
    str
        Markdown.
    """
    n_participants = len({run.participant for run in runs})
    pipelines = sorted({" ".join(filter(None, (d.pipeline, d.pipeline_version))) for run in runs for d in run.datasets})
    preprocessing = " and ".join(filter(None, pipelines)) or "an unnamed pipeline"
    uses_fmriprep = any(each.startswith("fMRIPrep") for each in pipelines)
    paragraphs = [
        "# Methods",
        f"Group parcellations were made with bids-parcellate {__version__} from {_count(len(runs), 'run')} of "
        f"{_count(n_participants, 'participant')}, preprocessed with {preprocessing}"
        f"{' (Esteban et al. 2019)' if uses_fmriprep else ''}.",
        _denoising(config, strategy),
        _parcellation(config, n_parcels),
        *filter(None, (_quality(config), _individual(config))),
        _signals(config),
        "## References",
        "\n".join(f"- {reference}" for reference in _references(config, strategy, uses_fmriprep=uses_fmriprep)),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _denoising(config: Config, strategy: ConfoundStrategy) -> str:
    denoising = config.denoising
    censoring = " (Power et al. 2012)" if "scrub" in strategy.strategy else ""
    steps = [f"Denoising of each run: {strategy.describe()}{censoring}"]
    if denoising.detrend:
        steps.append("linear detrending")
    if denoising.low_pass or denoising.high_pass:
        band = [
            f"above {denoising.high_pass:g} Hz" if denoising.high_pass else "",
            f"below {denoising.low_pass:g} Hz" if denoising.low_pass else "",
        ]
        steps.append(
            f"a Butterworth filter of order 5 that keeps frequencies {' and '.join(filter(None, band))}, applied to "
            "signals and confounds alike (Lindquist et al. 2019)"
        )
    smoothing = (
        f" Images were smoothed with a Gaussian of {denoising.smoothing_fwhm:g} mm full width at half maximum."
        if denoising.smoothing_fwhm
        else ""
    )
    return "; ".join(steps) + "." + smoothing


_MASKS = {
    "group": "their own brain masks",
    "epi": "masks computed from their mean images",
    "background": "masks that leave out the background of their images",
    "whole-brain-template": "the template's brain mask",
    "gm-template": "the template's grey matter",
    "wm-template": "the template's white matter",
}


def _parcellation(config: Config, n_parcels: Sequence[int] | None) -> str:
    parcellation, masking = config.parcellation, config.masking
    scaling = (
        "voxels were scaled to unit variance, and each run was reduced to at most {} principal components, which kept "
        "their singular values; the runs' components were merged by a further singular value decomposition of the same "
        "rank"
        if parcellation.features == "scaled"
        else "each run was reduced to at most {} principal components of unit norm, which were merged by a further "
        "singular value decomposition of the same rank, without singular values, as in nilearn"
    ).format(parcellation.n_components)
    grid = f" Images were resampled to voxels of {masking.target_res:g} mm." if masking.target_res else ""
    return (
        f"Voxels with signal in at least {masking.mask_threshold:.0%} of the runs were used, inside of "
        f"{_MASKS.get(masking.mask, 'a given mask')}.{grid} In these, {scaling}. {_clustering(config, n_parcels)}"
    )


def _clustering(config: Config, n_parcels: Sequence[int] | None) -> str:
    parcellation = config.parcellation
    made = _listed(n_parcels or parcellation.n_parcels)
    constraints = [
        "parcels were made contiguous" if parcellation.contiguous else "",
        f"parcels have at least {parcellation.min_size} voxels" if parcellation.min_size > 1 else "",
        "none crosses x = 0" if parcellation.split_hemispheres else "",
        "voxels were weighted by a given image" if parcellation.weights else "",
        "numbers and names were matched with those of an earlier parcellation" if parcellation.match_labels else "",
    ]
    text = f"The voxels' scores were divided into {made} parcels by {_METHODS[parcellation.method]}"
    text += "".join(f"; {each}" for each in constraints if each) + "."
    if not parcellation.choose_n_parcels:
        return text
    candidates = _listed(parcellation.n_parcels)
    if n_parcels is None:
        text = text.replace(f"into {made} parcels", "into parcels")
    return f"{text} Their number was chosen among {candidates}, by how well parcels hold in participants held out."


def _listed(items: Sequence[object]) -> str:
    *head, last = map(str, items)
    return f"{', '.join(head)} and {last}" if head else last


def _quality(config: Config) -> str:
    quality = config.quality
    if quality.level == "none":
        return ""
    text = (
        f"Parcels were compared with {quality.n_random} random contiguous parcellations of the same sizes, by "
        "explained variance, homogeneity, and the correlation within, less that across parcels at the same distance "
        f"(Zhi et al. 2022); fits to halves of the participants ({_count(config.n_splits, 'division')}) were compared "
        "by the adjusted Rand index (Hubert and Arabie 1985)."
    )
    if quality.level == "full":
        text += f" The stability of each voxel's parcel is its share of {quality.n_bootstrap} bootstrap fits."
    return text


def _individual(config: Config) -> str:
    if not config.parcellation.individual:
        return ""
    return (
        "Each participant has parcels of their own: from the group's, voxels at boundaries were moved one at a time to "
        "the neighbouring parcel that they are most like in this participant, weighed against the group's parcel and "
        "smoothness of the boundary (after Wang et al. 2015); parcels stay contiguous."
    )


_SUMMARIES = {"mean": "means over", "median": "medians over", "eigenvariate": "first eigenvariates (as in SPM) of"}

_CONNECTIVITY = {
    "pearson": "Pearson correlation",
    "partial": "partial correlation",
    "covariance": "covariance",
    "precision": "inverse covariance",
    "tangent": "deviation from the group's geometric mean covariance in its tangent space (Varoquaux et al. 2010)",
}


def _signals(config: Config) -> str:
    signals = config.signals
    kinds = _listed([_CONNECTIVITY[kind] for kind in signals.connectivity])
    shrunk = " Covariances were shrunk (Ledoit and Wolf 2004)." if set(signals.connectivity) != {"pearson"} else ""
    return (
        f"Parcel time series are {_SUMMARIES[signals.summary]} the voxels of a parcel that a run has; parcels of which "
        f"a run has less than {signals.min_coverage:.0%} have none in it. Connectivity is their {kinds}.{shrunk}"
    )


def _references(config: Config, strategy: ConfoundStrategy, *, uses_fmriprep: bool) -> list[str]:
    references = list(_REFERENCES.get(config.parcellation.method, ()))
    if uses_fmriprep:
        references.append(_FMRIPREP_REFERENCE)
    if config.parcellation.individual:
        references.append(_INDIVIDUAL_REFERENCE)
    if config.quality.level != "none":
        references += _QUALITY_REFERENCES
    if "scrub" in strategy.strategy:
        references.append(_CENSORING_REFERENCE)
    if config.denoising.low_pass or config.denoising.high_pass:
        references.append(_FILTER_REFERENCE)
    if set(config.signals.connectivity) != {"pearson"}:
        references.append(_SHRINKAGE_REFERENCE)
    if "tangent" in config.signals.connectivity:
        references.append(_TANGENT_REFERENCE)
    return sorted(references)
