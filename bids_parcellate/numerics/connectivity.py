"""Connectivity of parcels: correlations, covariances, partial correlations, and deviations from a group's covariance.

Signals have the shape (volumes, parcels); matrices are square, with a row and a column for each parcel. A parcel whose
signal is constant or not finite is missing: its row and its column are NaN, never 0, and all others are what they would
be without it. A caller that mistrusts a parcel, because the run covers too little of it, sets its signal to NaN.

What rests on a covariance takes the shrunk one of :func:`ledoit_wolf`. It treats volumes as independent draws; those of
a filtered run are not, so it shrinks less than their true number would ask for.
"""

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from bids_parcellate.errors import DataError, UsageError
from bids_parcellate.numerics.cleaning import standardize

Double = NDArray[np.float64]
Parcels = NDArray[np.bool_]

# The geometric mean is found when the next step would change no variance by a larger share.
_TOLERANCE = 1e-8
_MAX_ITERATIONS = 200


def pearson(signals: NDArray[np.floating]) -> Double:
    """Correlate the signals of parcels.

    Parameters
    ----------
    signals : ndarray of shape (n_volumes, n_parcels)
        Signals of parcels, at least two volumes.

    Returns
    -------
    ndarray of shape (n_parcels, n_parcels), float64
        Pearson correlations: exactly symmetric, exactly 1 on the diagonal. NaN in the row and the column of a parcel
        whose signal is constant or not finite.

    Raises
    ------
    DataError
        If there are fewer than two volumes.
    """
    parcels = _varying(signals)
    scores = standardize(signals[:, parcels].astype(np.float64), "zscore_sample")
    return _embed(_normalized(_symmetric(scores.T @ scores)), parcels)


def ledoit_wolf(signals: NDArray[np.floating]) -> tuple[Double, float]:
    r"""Estimate the covariance of the signals of parcels, shrunk as much as the number of volumes asks for.

    Parameters
    ----------
    signals : ndarray of shape (n_volumes, n_parcels)
        Signals of parcels, at least two volumes. They are centred here, but not scaled: shrinkage goes towards equal
        variances, so it is fair only to signals of comparable scale.

    Returns
    -------
    covariance : ndarray of shape (n_parcels, n_parcels), float64
        The shrunk covariance, in squared units of the signals. NaN in the row and the column of a parcel whose signal
        is constant or not finite.
    shrinkage : float
        The weight of the target, from 0 to 1; NaN where all parcels are missing.

    Raises
    ------
    DataError
        If there are fewer than two volumes.

    Notes
    -----
    With :math:`n` volumes :math:`x_k` of :math:`p` centred signals and :math:`S = \frac1n \sum_k x_k x_k^\top`,

    .. math:: \Sigma = (1 - \rho) S + \rho \mu I, \quad \mu = \frac{\operatorname{tr} S}{p}, \quad
        \rho = \min\left(1, \frac{\frac{1}{n^2} \sum_k \lVert x_k x_k^\top - S \rVert_F^2}
        {\lVert S - \mu I \rVert_F^2}\right),

    after [1]_. The sum in the numerator equals
    :math:`\sum_k \lVert x_k \rVert^4 - n \lVert S \rVert_F^2`, which needs no further matrix product.

    References
    ----------
    .. [1] Ledoit O, Wolf M (2004). A well-conditioned estimator for large-dimensional covariance matrices. Journal of
       Multivariate Analysis 88(2):365-411. doi:10.1016/S0047-259X(03)00096-4
    """
    parcels = _varying(signals)
    n_volumes, n_parcels = len(signals), int(np.count_nonzero(parcels))
    if n_parcels == 0:
        return _embed(np.empty((0, 0)), parcels), float("nan")
    centred = signals[:, parcels].astype(np.float64)
    centred -= centred.mean(axis=0)
    covariance = _symmetric(centred.T @ centred / n_volumes)
    target = np.trace(covariance) / n_parcels * np.eye(n_parcels)
    dispersion = np.square(covariance - target).sum()
    fourth_powers = np.square(np.square(centred).sum(axis=1)).sum()
    error = (fourth_powers / n_volumes - np.square(covariance).sum()) / n_volumes
    shrinkage = float(np.clip(error / dispersion, 0, 1)) if dispersion > 0 else 0.0
    return _embed((1 - shrinkage) * covariance + shrinkage * target, parcels), shrinkage


def correlation(covariance: Double) -> Double:
    r"""Scale a covariance to correlations.

    Parameters
    ----------
    covariance : ndarray of shape (n_parcels, n_parcels)
        NaN in the rows and the columns of missing parcels.

    Returns
    -------
    ndarray of shape (n_parcels, n_parcels), float64
        :math:`C_{ij} / \sqrt{C_{ii} C_{jj}}`: exactly 1 on the diagonal, NaN where the covariance is.

    Raises
    ------
    UsageError
        If the matrix is not square.
    DataError
        If a covariance between parcels that are not missing is not finite.

    Notes
    -----
    Of a shrunk covariance, they are nearer to 0 than those of :func:`pearson`: if the signals have the same variance,
    by the factor ``1 - shrinkage``. nilearn's kind "correlation" is that of signals that were standardized first.
    """
    return _map_available(_normalized, covariance)


def precision(covariance: Double) -> Double:
    """Invert a covariance.

    Parameters
    ----------
    covariance : ndarray of shape (n_parcels, n_parcels)
        NaN in the rows and the columns of missing parcels.

    Returns
    -------
    ndarray of shape (n_parcels, n_parcels), float64
        The inverse of the covariance between the parcels that are not missing; NaN for the others.

    Raises
    ------
    UsageError
        If the matrix is not square.
    DataError
        If the covariance is not finite, or not positive definite.
    """
    return _map_available(_inverse, covariance)


def partial_correlation(covariance: Double) -> Double:
    r"""Correlate parcels, given all other parcels that are not missing.

    Parameters
    ----------
    covariance : ndarray of shape (n_parcels, n_parcels)
        NaN in the rows and the columns of missing parcels.

    Returns
    -------
    ndarray of shape (n_parcels, n_parcels), float64
        :math:`-P_{ij} / \sqrt{P_{ii} P_{jj}}` with the :func:`precision` :math:`P` [1]_; 1 on the diagonal, NaN for
        missing parcels.

    Raises
    ------
    UsageError
        If the matrix is not square.
    DataError
        If the covariance is not finite, or not positive definite.

    References
    ----------
    .. [1] Lauritzen SL (1996). Graphical Models, chapter 5. Oxford University Press.
    """
    return _map_available(_partial, covariance)


def geometric_mean(covariances: Collection[Double]) -> Double:
    r"""Average the covariances of runs, or of subjects, along the curved space of covariances.

    Parameters
    ----------
    covariances : collection of ndarray of shape (n_parcels, n_parcels)
        Positive definite; NaN in the rows and the columns of missing parcels. They are gone through once per
        iteration, one at a time, so a collection that loads them as they are asked for needs the memory of one.

    Returns
    -------
    ndarray of shape (n_parcels, n_parcels), float64
        The mean over the parcels that no covariance lacks; NaN for the others. It is the reference of :func:`tangent`.

    Raises
    ------
    UsageError
        If the covariances are not square and of one shape.
    DataError
        If there is no covariance, if no parcel is common to all, if one is not positive definite, or if the mean is not
        found in 200 iterations.

    Notes
    -----
    The mean :math:`G` has the least sum of squared distances :math:`\lVert \log G^{-1/2} C_i G^{-1/2} \rVert_F` [1]_,
    so the mean of these logarithms, the gradient, is 0. From the arithmetic mean on,

    .. math:: G \leftarrow G^{1/2} \exp\left(\frac{\theta}{N} \sum_i \log G^{-1/2} C_i G^{-1/2}\right) G^{1/2}

    until no eigenvalue of the gradient is above 1e-8. The step :math:`\theta = 2 / (1 + L)` is the best one for a
    curvature between 1 and :math:`L`, the mean of :math:`\frac{\delta_i}{2} \coth \frac{\delta_i}{2}`, where
    :math:`\delta_i` is the range of the eigenvalues of the i-th logarithm; [2]_ finds its step from the same ranges.

    References
    ----------
    .. [1] Fletcher PT, Joshi S (2007). Riemannian geometry for the statistical analysis of diffusion tensor data.
       Signal Processing 87(2):250-262. doi:10.1016/j.sigpro.2005.12.018
    .. [2] Bini DA, Iannazzo B (2013). Computing the Karcher mean of symmetric positive definite matrices. Linear
       Algebra and its Applications 438(4):1700-1710. doi:10.1016/j.laa.2011.08.052
    """
    arithmetic = _arithmetic_mean(covariances)
    parcels = _available(arithmetic)
    if not parcels.any():
        raise DataError(f"none of {len(parcels)} parcels has a covariance in all of {len(covariances)} runs")
    mean = _between(arithmetic, parcels)
    for _ in range(_MAX_ITERATIONS):
        root, whitening = _map_eigenvalues(_root, mean), _map_eigenvalues(_inverse_root, mean)
        gradient, curvature = _mean_logarithm(covariances, parcels, whitening)
        size = np.linalg.norm(gradient, ord=2)
        if size <= _TOLERANCE:
            return _embed(mean, parcels)
        mean = _symmetric(root @ _map_eigenvalues(np.exp, 2 / (1 + curvature) * gradient) @ root)
    raise DataError(
        f"after {_MAX_ITERATIONS} iterations, the gradient at the geometric mean of {len(covariances)} covariances is "
        f"{size:.1e}; the limit is {_TOLERANCE:.0e}",
        "Some covariances are nearly singular: leave out runs with few volumes.",
    )


def tangent(covariance: Double, reference: Double) -> Double:
    r"""Project a covariance to the tangent space at a reference: how the run deviates from the group.

    Parameters
    ----------
    covariance : ndarray of shape (n_parcels, n_parcels)
        That of a run or of a subject, positive definite.
    reference : ndarray of shape (n_parcels, n_parcels)
        The :func:`geometric_mean` of the group. Keep it: with it, later subjects are comparable with earlier ones.

    Returns
    -------
    ndarray of shape (n_parcels, n_parcels), float64
        :math:`\log G^{-1/2} C G^{-1/2}` for the reference :math:`G` [1]_: 0 where the run is like the group. It has no
        units, and its diagonal counts. NaN for parcels that the reference lacks.

    Raises
    ------
    UsageError
        If the matrices are not square and of one shape.
    DataError
        If the covariance lacks a parcel of the reference, or if one of them is not positive definite.

    Notes
    -----
    Every value depends on all parcels, so a covariance that lacks one cannot be compared with those that do not.

    References
    ----------
    .. [1] Varoquaux G, Baronnet F, Kleinschmidt A, Fillard P, Thirion B (2010). Detection of brain
       functional-connectivity difference in post-stroke patients using group-level covariance modeling. MICCAI 2010,
       LNCS 6361:200-208. doi:10.1007/978-3-642-15705-9_25
    """
    _check_shape(covariance, reference.shape)
    parcels = _available(reference)
    lacking = np.count_nonzero(parcels & ~_available(covariance))
    if lacking:
        raise DataError(
            f"the covariance lacks {lacking} of the {np.count_nonzero(parcels)} parcels of the reference",
            "Leave out this run, or average anew with it: the mean keeps to parcels that all have.",
        )
    whitening = _map_eigenvalues(_inverse_root, _between(reference, parcels))
    whitened = _symmetric(whitening @ _between(covariance, parcels) @ whitening)
    return _embed(_map_eigenvalues(_logarithm, whitened), parcels)


def _varying(signals: NDArray[np.floating]) -> Parcels:
    """Tell which parcels have a signal that is finite and not constant."""
    finite = np.where(np.isfinite(signals), signals, np.nan).astype(np.float64)
    scores = standardize(finite, "zscore_sample")
    return np.asarray(scores.any(axis=0) & np.isfinite(scores).all(axis=0))


def _available(covariance: Double) -> Parcels:
    """Tell which parcels have a variance."""
    _check_shape(covariance, (len(covariance), len(covariance)))
    variances = np.diag(covariance)
    return np.asarray(np.isfinite(variances) & (variances > 0))


def _check_shape(matrix: Double, shape: tuple[int, ...]) -> None:
    if matrix.shape != shape:
        raise UsageError(f"the matrix has the shape {matrix.shape}; {shape} is needed")


def _between(covariance: Double, parcels: Parcels) -> Double:
    """Pick the covariances between some parcels."""
    block = covariance[np.ix_(parcels, parcels)].astype(np.float64)
    if not np.isfinite(block).all():
        raise DataError("the covariance holds values that are not finite between parcels that are not missing")
    return block


def _embed(block: Double, parcels: Parcels) -> Double:
    """Put the rows and the columns of some parcels among those of all; NaN for the others."""
    matrix = np.full((len(parcels), len(parcels)), np.nan)
    matrix[np.ix_(parcels, parcels)] = block
    return matrix


def _map_available(function: Callable[[Double], Double], covariance: Double) -> Double:
    parcels = _available(covariance)
    return _embed(function(_between(covariance, parcels)), parcels)


def _symmetric(matrix: Double) -> Double:
    """Make a matrix exactly symmetric that is so up to rounding."""
    return np.asarray((matrix + matrix.T) / 2)


def _normalized(matrix: Double) -> Double:
    deviations = np.sqrt(np.diag(matrix))
    normalized: Double = np.clip(matrix / np.outer(deviations, deviations), -1, 1)
    np.fill_diagonal(normalized, 1)
    return normalized


def _inverse(covariance: Double) -> Double:
    return _map_eigenvalues(_reciprocal, covariance)


def _partial(covariance: Double) -> Double:
    partial = -_normalized(_inverse(covariance))
    np.fill_diagonal(partial, 1)
    return partial


def _map_eigenvalues(function: Callable[[Double], Double], symmetric: Double) -> Double:
    eigenvalues, vectors = np.linalg.eigh(symmetric)
    return _symmetric((vectors * function(eigenvalues)) @ vectors.T)


def _positive(eigenvalues: Double) -> Double:
    """Give eigenvalues back, unless the least of them may be rounding noise."""
    limit = len(eigenvalues) * np.finfo(np.float64).eps * eigenvalues.max(initial=0)
    if (eigenvalues <= limit).any():
        raise DataError(
            f"the covariance is not positive definite: eigenvalues from {eigenvalues.min():.1e} to "
            f"{eigenvalues.max():.1e}",
            "Take a shrunk covariance, of more than two volumes.",
        )
    return eigenvalues


def _reciprocal(eigenvalues: Double) -> Double:
    return 1 / _positive(eigenvalues)


def _root(eigenvalues: Double) -> Double:
    return np.asarray(np.sqrt(_positive(eigenvalues)))


def _inverse_root(eigenvalues: Double) -> Double:
    return 1 / _root(eigenvalues)


def _logarithm(eigenvalues: Double) -> Double:
    return np.asarray(np.log(_positive(eigenvalues)))


def _arithmetic_mean(covariances: Collection[Double]) -> Double:
    """Average covariances; NaN for parcels that one of them lacks."""
    if len(covariances) == 0:
        raise DataError("there is no covariance to average")
    total = np.zeros_like(next(iter(covariances)), dtype=np.float64)
    for covariance in covariances:
        _check_shape(covariance, total.shape)
        available = _available(covariance)
        total += _embed(_between(covariance, available), available)
    return total / len(covariances)


def _mean_logarithm(covariances: Collection[Double], parcels: Parcels, whitening: Double) -> tuple[Double, float]:
    """Average the logarithms of whitened covariances, and the bounds of the curvature that each of them sets."""
    total, curvature = np.zeros_like(whitening), 0.0
    for covariance in covariances:
        whitened = _symmetric(whitening @ _between(covariance, parcels) @ whitening)
        eigenvalues, vectors = np.linalg.eigh(whitened)
        logarithms = _logarithm(eigenvalues)
        total += (vectors * logarithms) @ vectors.T
        half_range = (logarithms[-1] - logarithms[0]) / 2
        curvature += half_range / np.tanh(half_range) if half_range > 0 else 1
    return _symmetric(total / len(covariances)), curvature / len(covariances)
