"""Charts as SVG inside a page: they take the page's font and colours, dark ones too, and need no plotting library."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

FloatArray = npt.NDArray[np.floating]

# In units of the SVG, which are pixels at its natural size.
_WIDTH, _ROW = 720, 34
_LEFT, _RIGHT, _TOP, _TITLE, _BOTTOM = 64, 14, 10, 24, 44
_TRACE_HEIGHT, _CURVE_HEIGHT, _CURVE_WIDTH = 96, 200, 480


@dataclass(frozen=True)
class Axis:
    """From values to places along one side of a chart.

    Parameters
    ----------
    low, high : float
        The values at its ends.
    start, stop : float
        The places of its ends.
    label : str, default=""
        What the values are.
    is_log : bool, default=False
        Whether equal steps are equal ratios.
    """

    low: float
    high: float
    start: float
    stop: float
    label: str = ""
    is_log: bool = False

    def place(self, value: float) -> float:
        """Find where a value lies.

        Parameters
        ----------
        value : float
            The value.

        Returns
        -------
        float
            Its place, to a tenth.
        """
        low, high, value = (math.log10(each) if self.is_log else each for each in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.stop - self.start), 1)

    @property
    def ticks(self) -> list[float]:
        """Round values between the ends: three to seven of them."""
        if self.is_log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            ticks = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
        else:
            step = _round_step((self.high - self.low) / 5)
            ticks = [step * number for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [tick for tick in ticks if self.low <= tick <= self.high]


def _round_step(step: float) -> float:
    unit = 10.0 ** math.floor(math.log10(step))
    return next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= step * (1 - 1e-9))


def _spread(values: Iterable[float], *, zero: bool = False) -> tuple[float, float]:
    """Choose ends that leave some room around values."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    return (0.0 if zero and low >= 0 else low - room), high + room


def _log_spread(values: FloatArray) -> tuple[float, float]:
    return float(values.min()) / 1.2, float(values.max()) * 1.2


def _line(first: tuple[float, float], second: tuple[float, float], name: str) -> Markup:
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(*first, *second, name)


def _text(place: tuple[float, float], text: str, name: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}">{}</text>').format(*place, name, text)


def _polyline(points: Iterable[tuple[float, float]], name: str, element: str = "polyline") -> Markup:
    text = " ".join(f"{x:g},{y:g}" for x, y in points)
    return Markup('<{} points="{}" class="{}"/>').format(element, text, name)


def _svg(height: float, label: str, parts: Iterable[Markup], width: int = _WIDTH) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, f"{height:g}", label, Markup().join(parts)
    )


def _format(value: float) -> str:
    return f"{value:,.10g}".replace("-", "\N{MINUS SIGN}")


def _draw_x(axis: Axis, bottom: float, ticks: Sequence[float] = ()) -> list[Markup]:
    """Draw the lower axis, with round ticks if none are given."""
    parts = [_line((axis.start, bottom), (axis.stop, bottom), "axis")]
    for tick in ticks or axis.ticks:
        x = axis.place(tick)
        parts += [_line((x, bottom), (x, bottom + 5), "axis"), _text((x, bottom + 18), _format(tick), "middle")]
    if axis.label:
        parts.append(_text(((axis.start + axis.stop) / 2, bottom + 36), axis.label, "middle label"))
    return parts


def _draw_y(axis: Axis, right: float) -> list[Markup]:
    parts = []
    for tick in axis.ticks:
        y = axis.place(tick)
        parts += [_line((_LEFT, y), (right, y), "grid"), _text((_LEFT - 6, y + 4), _format(tick), "end")]
    return parts


def draw_trace(
    values: FloatArray,
    *,
    name: str,
    unit: str,
    kept: npt.NDArray[np.bool_],
    threshold: float | None = None,
    from_zero: bool = True,
) -> Markup:
    """Draw a figure of each volume, and which volumes were censored.

    Parameters
    ----------
    values : ndarray of float, shape (n_volumes,)
        NaN where it is not known.
    name, unit : str
        What it is.
    kept : ndarray of bool, shape (n_volumes,)
        False for censored volumes: a mark along the whole height.
    threshold : float, optional
        Above which volumes were censored: a dashed line.
    from_zero : bool, default=True
        Whether the axis starts at zero, rather than at the lowest value.

    Returns
    -------
    Markup
        An inline SVG. The axis has room for the volumes that were kept; censored ones may leave it at its end.
    """
    limits = [] if threshold is None else [threshold]
    low, high = _spread([*values[kept], *limits], zero=from_zero)
    clipped = np.clip(values, low, high)
    bottom = _TITLE + _TRACE_HEIGHT
    x = Axis(0, max(len(values) - 1, 1), _LEFT, _WIDTH - _RIGHT)
    y = Axis(low, high, bottom, _TITLE)
    parts = _draw_y(y, x.stop)
    parts += [_band(x.place(float(volume)), len(values)) for volume in np.flatnonzero(~kept)]
    if threshold is not None:
        parts.append(_line((x.start, y.place(threshold)), (x.stop, y.place(threshold)), "threshold"))
    parts += [
        _polyline(((x.place(volume), y.place(float(clipped[volume]))) for volume in piece), "trace")
        for piece in _pieces(values)
    ]
    parts += [*_draw_x(x, bottom), _text((_LEFT, _TITLE - 10), f"{name} ({unit})" if unit else name, "name")]
    known = values[np.isfinite(values)]
    summary = f"median {np.median(known):.2f}, largest {known.max():.2f}" if known.size else "not known"
    label = f"{name} of {len(values)} volumes: {summary} {unit}; {int((~kept).sum())} volumes are censored."
    return _svg(bottom + _BOTTOM / 2, label, parts)


def _band(x: float, n_volumes: int) -> Markup:
    width = max((_WIDTH - _LEFT - _RIGHT) / max(n_volumes - 1, 1), 1.5)
    return Markup('<rect x="{:.1f}" y="{}" width="{:.1f}" height="{}" class="censored"/>').format(
        x - width / 2, _TITLE, width, _TRACE_HEIGHT
    )


def _pieces(values: FloatArray) -> list[npt.NDArray[np.intp]]:
    """Find the stretches of values that are known; a line is drawn through each."""
    known = np.flatnonzero(np.isfinite(values))
    return [piece for piece in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1) if piece.size]


@dataclass(frozen=True)
class Curve:
    """A figure at several numbers of parcels, beside that of random parcels. All arrays have one length.

    Parameters
    ----------
    n_parcels : ndarray of int, shape (n,)
        Numbers of parcels, ascending; at least one.
    values : ndarray of float64, shape (n,)
        The figure.
    random_mean, random_sd : ndarray of float64, shape (n,)
        Its mean and standard deviation in random parcels of the same sizes.
    """

    n_parcels: npt.NDArray[np.integer]
    values: FloatArray
    random_mean: FloatArray
    random_sd: FloatArray

    @property
    def random_limits(self) -> tuple[FloatArray, FloatArray]:
        """Two standard deviations below and above the mean of random parcels."""
        return self.random_mean - 2 * self.random_sd, self.random_mean + 2 * self.random_sd


def draw_curve(curve: Curve, *, name: str, chosen: int | None = None) -> Markup:
    """Draw a figure at one or several numbers of parcels, beside that of random parcels.

    Parameters
    ----------
    curve : Curve
        The figure.
    name : str
        What it is.
    chosen : int, optional
        A number of parcels that is marked.

    Returns
    -------
    Markup
        An inline SVG: a dot for each number; a band of two standard deviations around the mean of random parcels.
    """
    numbers = curve.n_parcels.astype(np.float64)
    lower, upper = curve.random_limits
    low, high = _spread([*lower, *upper, *curve.values])
    bottom = _TITLE + _CURVE_HEIGHT
    x = Axis(*_log_spread(numbers), _LEFT, _CURVE_WIDTH - _RIGHT, "Parcels", is_log=True)
    y = Axis(low, high, bottom, _TITLE)

    def place(values: FloatArray) -> list[tuple[float, float]]:
        return [(x.place(number), y.place(float(value))) for number, value in zip(numbers, values, strict=True)]

    parts = _draw_y(y, x.stop)
    parts.append(_polyline([*place(upper), *reversed(place(lower))], "null-band", "polygon"))
    parts += [_line(first, second, "null-bar") for first, second in zip(place(lower), place(upper), strict=True)]
    parts += [_polyline(place(curve.random_mean), "null"), _polyline(place(curve.values), "trace")]
    for number, (left, top) in zip(curve.n_parcels, place(curve.values), strict=True):
        radius, kind = (6, "chosen") if number == chosen else (4, "dot")
        parts.append(Markup('<circle cx="{}" cy="{}" r="{}" class="{}"/>').format(left, top, radius, kind))
    parts += [*_draw_x(x, bottom, [float(number) for number in numbers]), _text((_LEFT, _TITLE - 10), name, "name")]
    triples = zip(curve.n_parcels, curve.values, curve.random_mean, strict=True)
    told = ", ".join(f"{number}: {value:.3f} (random {random:.3f})" for number, value, random in triples)
    return _svg(bottom + _BOTTOM, f"{name} by number of parcels. {told}.", parts, _CURVE_WIDTH)


@dataclass(frozen=True)
class Strip:
    """A row of a chart of distributions.

    Parameters
    ----------
    label : str
        What the row is.
    values : ndarray of float, shape (n,)
        A tick each; at least one, all finite.
    """

    label: str
    values: FloatArray


def draw_strips(strips: Sequence[Strip], *, name: str, is_log: bool = False, highest: float = math.inf) -> Markup:
    """Draw distributions, one below the other.

    Parameters
    ----------
    strips : sequence of Strip
        At least one.
    name : str
        What the values are.
    is_log : bool, default=False
        Whether the axis is logarithmic; all values are positive then.
    highest : float, optional
        Where the axis ends, at most.

    Returns
    -------
    Markup
        An inline SVG: a tick for each value, a bar from the lower to the upper quartile, a longer mark at the median.
    """
    values = np.concatenate([strip.values for strip in strips])
    low, high = _log_spread(values) if is_log else _spread(values)
    bottom = _TOP + _ROW * len(strips)
    left = max(_LEFT, 16 + 7 * max(len(strip.label) for strip in strips))
    axis = Axis(low, min(high, highest), left, _WIDTH - _RIGHT, name, is_log)
    parts = []
    for row, strip in enumerate(strips):
        parts += _draw_strip(strip, axis.place, left, _TOP + _ROW * (row + 0.5))
    label = f"{name}. " + " ".join(map(_describe, strips))
    return _svg(bottom + _BOTTOM, label, [*parts, *_draw_x(axis, bottom)])


def _draw_strip(strip: Strip, place: Callable[[float], float], left: float, middle: float) -> list[Markup]:
    lower, median, upper = (place(float(value)) for value in np.percentile(strip.values, [25, 50, 75]))
    return [
        _text((left - 8, middle + 4), strip.label, "end"),
        Markup('<rect x="{}" y="{}" width="{:.1f}" height="18" class="quartiles"/>').format(
            lower, middle - 9, upper - lower
        ),
        Markup('<path d="{}" class="ticks"/>').format(
            "".join(f"M{x:g} {middle - 6:g}v12" for x in sorted({place(float(value)) for value in strip.values}))
        ),
        _line((median, middle - 13), (median, middle + 13), "median"),
    ]


def _describe(strip: Strip) -> str:
    low, median, high = np.percentile(strip.values, [0, 50, 100])
    return f"{strip.label}: from {low:,.4g} to {high:,.4g}, median {median:,.4g}."
