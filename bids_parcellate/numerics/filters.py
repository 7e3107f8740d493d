"""Butterworth filters without phase shift: run forwards and backwards over whole time series.

They give what :func:`scipy.signal.sosfiltfilt` gives with a filter of :func:`scipy.signal.butter`. Each worker process
would have to load that package, which takes far longer than a filter.

References
----------
.. [1] Butterworth S (1930). On the theory of filter amplifiers. Wireless Engineer 7:536-541.
.. [2] Oppenheim AV, Schafer RW (2010). Discrete-Time Signal Processing, 3rd edition, section 7.2.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from bids_parcellate.errors import DataError, UsageError

Floats = NDArray[np.float64]
Complex = NDArray[np.complex128]
Analog = TypeVar("Analog", complex, NDArray[np.complex128])


@dataclass(frozen=True)
class Filter:
    """A digital filter, as the fraction ``gain * prod(z - zeros) / prod(z - poles)``.

    Parameters
    ----------
    zeros, poles : ndarray of complex, shape (n_poles,)
        The roots; all poles lie in the unit circle.
    gain : float
        The factor before the fraction.
    constant_gain : float
        What a constant is multiplied by.
    """

    zeros: Complex
    poles: Complex
    gain: float
    constant_gain: float

    @property
    def padding(self) -> int:
        """Number of values by which each end of a series is extended: scipy's default."""
        return 3 * (len(self.poles) + 1)


def butterworth(order: int, t_r: float | None, *, low_pass: float | None, high_pass: float | None) -> Filter:
    """Design a Butterworth filter.

    Parameters
    ----------
    order : int
        Order of the low-pass filter that it is made from; a band-pass filter has twice as many poles.
    t_r : float or None
        Repetition time in seconds.
    low_pass, high_pass : float or None
        Cut-off frequencies in Hz, where the power is halved; at least one is given.

    Returns
    -------
    Filter
        Low-pass, high-pass, or band-pass with both.

    Raises
    ------
    UsageError
        If there is no repetition time, or the cut-offs do not lie between 0 and the Nyquist frequency in their order.
    """
    low, high = _bent(t_r, low_pass=low_pass, high_pass=high_pass)
    prototype = np.exp(1j * np.pi * (0.5 + (np.arange(order) + 0.5) / order))
    if high is None:
        analog, passed = prototype * low, 1 + 0j
    elif low is None:
        analog, passed = high / prototype, -1 + 0j
    else:
        half, centre = prototype * (low - high) / 2, np.sqrt(low * high)
        apart = np.sqrt(half**2 - centre**2)
        analog, passed = np.concatenate([half + apart, half - apart]), _to_digital(1j * centre)
    # Poles of low frequencies come first, each with a zero at the constant: so no single pole makes large numbers.
    poles = np.array(sorted(_to_digital(analog), key=lambda pole: abs(pole - 1)))
    n_low = 0 if high is None else order
    zeros = np.where(np.arange(len(poles)) < n_low, 1, -1).astype(complex)
    gain = np.prod((passed - poles) / (passed - zeros)).real
    return Filter(zeros, poles, float(gain), constant_gain=float(high is None))


def filter_both_ways(which: Filter, series: Floats) -> Floats:
    """Filter each column forwards and backwards; its ends are extended by their point reflection.

    Parameters
    ----------
    which : Filter
        The filter.
    series : ndarray of shape (n_volumes, n_columns)
        One value for each volume, none missing.

    Returns
    -------
    ndarray of shape (n_volumes, n_columns)
        Damped by the square of the filter's gain, not shifted in time.

    Raises
    ------
    DataError
        If there are too few volumes.
    """
    padding = which.padding
    if len(series) <= padding:
        raise DataError(
            f"the run is too short for the filter: {len(series)} volumes, more than {padding} are needed",
            "Leave out this run, or do not filter.",
        )
    before = 2 * series[0] - series[padding:0:-1]
    after = 2 * series[-1] - series[-2 : -padding - 2 : -1]
    extended = np.concatenate([before, series, after])
    response = _impulse_response(which, len(extended))
    forwards = linalg.toeplitz(response, np.zeros(len(extended)))
    for _ in range(2):
        first = extended[0]  # taken to be what was there for ever
        extended = (forwards @ (extended - first) + which.constant_gain * first)[::-1]
    return np.asarray(extended[padding:-padding])


def _bent(t_r: float | None, **cutoffs: float | None) -> list[float | None]:
    """Check the cut-offs, and bend them as the bilinear transform bends frequencies."""
    given = {name: cutoff for name, cutoff in cutoffs.items() if cutoff is not None}
    if t_r is None or not t_r > 0:
        raise UsageError(
            f"{' and '.join(given)}: a filter needs the repetition time, but t_r is {t_r}",
            "Give t_r in seconds.",
        )
    nyquist = 0.5 / t_r
    for name, cutoff in given.items():
        if not 0 < cutoff < nyquist:
            raise UsageError(
                f"{name} is {cutoff} Hz; it must be above 0 and below the Nyquist frequency, "
                f"{nyquist:.4g} Hz with a repetition time of {t_r} s"
            )
    low_pass, high_pass = cutoffs["low_pass"], cutoffs["high_pass"]
    if low_pass is not None and high_pass is not None and not high_pass < low_pass:
        raise UsageError(f"high_pass ({high_pass} Hz) must be lower than low_pass ({low_pass} Hz)")
    return [None if cutoff is None else float(np.tan(np.pi * cutoff * t_r)) for cutoff in (low_pass, high_pass)]


def _to_digital(analog: Analog) -> Analog:
    """Map the left half plane into the unit circle (bilinear transform)."""
    return (1 + analog) / (1 - analog)


def _impulse_response(which: Filter, n_values: int) -> Floats:
    """Give what the filter makes of a one and zeros: pole by pole, each with its zero."""
    response = [which.gain + 0j] + [0j] * (n_values - 1)
    for zero, pole in zip(which.zeros.tolist(), which.poles.tolist(), strict=True):
        before, value = 0j, 0j
        for index, now in enumerate(response):
            value = now - zero * before + pole * value
            before = now
            response[index] = value
    return np.array(response).real
