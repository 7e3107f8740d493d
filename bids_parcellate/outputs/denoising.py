"""What a kind of denoising is called in file names, so that two kinds never share a name, and what it does in words."""

import hashlib
from collections.abc import Iterator

from bids_parcellate.config import CONFOUND_PRESETS, DenoisingConfig
from bids_parcellate.io.naming import as_label
from bids_parcellate.io.strategies import PRESETS, ConfoundStrategy

_SCALING = {
    "zscore_sample": "signals scaled to z-scores",
    "psc": "signals scaled to percent of their mean",
    "none": "signals not scaled",
}


def denoising_label(config: DenoisingConfig, strategy: ConfoundStrategy) -> str:
    """Make the ``desc-`` label of outputs.

    Parameters
    ----------
    config : DenoisingConfig
        The options.
    strategy : ConfoundStrategy
        The strategy that they lead to.

    Returns
    -------
    str
        The preset's name, followed by every option that differs from its default: ``simpleFd0p5Fwhm6``. The name of a
        strategy file is followed by six digits of a digest of its content.
    """
    if config.confounds in CONFOUND_PRESETS:
        stem, usual = as_label(config.confounds), PRESETS[config.confounds]
    else:
        stem = as_label(config.confounds.rpartition("/")[2].rpartition(".")[0]) or "custom"
        usual = strategy
        stem += hashlib.sha256(strategy.model_dump_json().encode()).hexdigest()[:6]
    return stem + "".join([*_censoring_parts(strategy, usual), *_parts(config)])


def _censoring_parts(strategy: ConfoundStrategy, usual: ConfoundStrategy) -> Iterator[str]:
    if strategy == usual:
        return
    for name, value in (
        ("Fd", strategy.fd_threshold),
        ("Dvars", strategy.std_dvars_threshold),
        ("Scrub", strategy.scrub),
    ):
        yield f"{name}{_number(value)}"


def _parts(config: DenoisingConfig) -> Iterator[str]:
    for name, value, usual in (
        ("Hp", config.high_pass, _default("high_pass")),
        ("Lp", config.low_pass, _default("low_pass")),
        ("Fwhm", config.smoothing_fwhm, _default("smoothing_fwhm")),
    ):
        if value != usual and isinstance(value, float):
            yield f"{name}{_number(value)}"
    if not config.detrend:
        yield "Trend"
    if config.standardize != _default("standardize"):
        yield {"zscore_sample": "Z", "psc": "Psc", "none": "Unscaled"}[config.standardize]


def _default(name: str) -> object:
    return DenoisingConfig.model_fields[name].default


def _number(value: float) -> str:
    return f"{value:.12g}".replace(".", "p").replace("-", "m").replace("+", "")


def describe_denoising(config: DenoisingConfig, strategy: ConfoundStrategy) -> str:
    """Say in one line of plain text what the denoising does.

    Parameters
    ----------
    config : DenoisingConfig
        The options.
    strategy : ConfoundStrategy
        The strategy that they lead to.

    Returns
    -------
    str
        A phrase without a full stop.
    """
    parts = [strategy.describe()]
    if config.detrend:
        parts.append("linear detrending")
    if config.high_pass:
        parts.append(f"frequencies below {config.high_pass:g} Hz removed")
    if config.low_pass:
        parts.append(f"frequencies above {config.low_pass:g} Hz removed")
    if config.smoothing_fwhm:
        parts.append(f"smoothing of {config.smoothing_fwhm:g} mm full width at half maximum")
    return "; ".join([*parts, _SCALING[config.standardize]])
