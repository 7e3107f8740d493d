"""Pictures in a page: the pixels are those of the data, lines lie where the values are, and all say what they show."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.image import imread

from bids_parcellate.numerics.grids import Grid
from bids_parcellate.parcels.atlas import Parcellation, describe_parcels
from bids_parcellate.report.charts import Axis, Curve, Strip, draw_curve, draw_strips, draw_trace
from bids_parcellate.report.drawings import draw_carpet, draw_coverage, draw_matrix, draw_slices
from bids_parcellate.report.pixels import color_correlations, color_shares, data_uri, shrink, to_png
from bids_parcellate.report.slices import cut_parcels


class Drawn(HTMLParser):
    """The elements of an SVG, with their attributes and the texts."""

    def __init__(self, markup):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(str(markup))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag, name=None):
        return [
            attributes for kind, attributes in self.elements if kind == tag and name in (None, attributes.get("class"))
        ]

    def points(self, name):
        return [
            np.array([[float(number) for number in pair.split(",")] for pair in line["points"].split()])
            for line in self.all("polyline", name)
        ]

    @property
    def label(self):
        return self.all("svg")[0]["aria-label"]

    def pictures(self):
        return [decode(picture["href"]) for picture in self.all("image")]


def decode(uri):
    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"), validate=True)
    return np.rint(255 * imread(io.BytesIO(content), format="png")).astype(int)


class TestPixels:
    @settings(deadline=None, max_examples=30)
    @given(
        pixels=st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
            lambda shape: st.sampled_from([shape, (*shape, 3)]).flatmap(lambda full: arrays(np.uint8, full))
        )
    )
    def test_a_png_file_holds_the_pixels(self, pixels):
        np.testing.assert_array_equal(decode(data_uri(pixels)), pixels)
        assert to_png(pixels) == to_png(pixels.copy())

    def test_correlations_from_blue_over_white_to_red(self):
        low, middle, high, missing = color_correlations(np.array([[-1.0, 0, 1, np.nan]]))[0].astype(int)
        assert low[2] > low[0] + 80
        assert middle.min() > 240
        assert high[0] > high[2] + 80
        assert np.ptp(missing) == 0

    def test_shares_from_red_to_green(self):
        low, high = color_shares(np.array([[0.0, 1.0]]))[0].astype(int)
        assert low[0] > low[1] + 80
        assert high[1] > high[0] + 50

    @pytest.mark.parametrize(("shape", "size"), [((6, 9), 3), ((7, 5), 3), ((2, 2), 5)])
    def test_shrinking_keeps_the_mean(self, shape, size):
        values = np.random.default_rng(0).random(shape)
        small = shrink(values, size)
        assert small.shape == tuple(min(length, size) for length in shape)
        if all(length % size == 0 for length in shape):
            blocks = values.reshape(size, shape[0] // size, size, shape[1] // size)
            np.testing.assert_allclose(small, blocks.mean(axis=(1, 3)))
        np.testing.assert_array_equal(shrink(np.full(shape, 3.0), size), 3)

    def test_what_is_missing_does_not_count(self):
        np.testing.assert_array_equal(
            shrink(np.array([[1.0, np.nan], [3.0, np.nan], [np.nan] * 2, [np.nan] * 2]), 2), [[2, np.nan], [np.nan] * 2]
        )


class TestAxis:
    @settings(deadline=None, max_examples=100)
    @given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6))
    def test_ticks_are_few_round_and_between_the_ends(self, low, width):
        axis = Axis(low, low + width, 0, 100)
        assert 2 <= len(axis.ticks) <= 7
        steps = np.diff(axis.ticks)
        np.testing.assert_allclose(steps, steps[0], rtol=1e-3)
        assert f"{steps[0]:.0e}"[0] in "125"
        assert all(0 <= axis.place(tick) <= 100 for tick in axis.ticks)

    def test_equal_ratios_are_equal_steps(self):
        axis = Axis(1, 100, 0, 200, is_log=True)
        assert [axis.place(value) for value in (1, 10, 100)] == [0, 100, 200]
        assert axis.ticks == [1, 2, 5, 10, 20, 50, 100]


class TestTrace:
    VALUES = np.array([np.nan, 0.1, 0.2, 5.0, np.nan, 0.4, 0.1])
    KEPT = np.array([True, True, True, False, True, True, True])

    def drawn(self, **options):
        return Drawn(draw_trace(self.VALUES, name="Motion <i>", unit="mm", kept=self.KEPT, **options))

    def test_lines_go_through_what_is_known_and_censored_volumes_are_marked(self):
        drawn = self.drawn(threshold=0.3)
        first, second = drawn.points("trace")
        assert (len(first), len(second)) == (3, 2)
        (bar,) = drawn.all("rect", "censored")
        assert float(bar["x"]) + float(bar["width"]) / 2 == pytest.approx(first[2, 0], abs=0.2)
        (limit,) = drawn.all("line", "threshold")
        heights = {0.1: first[0, 1], 0.2: first[1, 1], 0.4: second[0, 1]}
        assert np.interp(0.3, list(heights), list(heights.values())) == pytest.approx(float(limit["y1"]), abs=0.2)

    def test_a_censored_spike_does_not_hide_the_rest(self):
        first, second = self.drawn().points("trace")
        assert first[2, 1] == 24, "it stops at the upper end"
        assert abs(second[0, 1] - second[1, 1]) > 40

    def test_it_says_what_it_shows(self):
        assert self.drawn().label == ("Motion <i> of 7 volumes: median 0.20, largest 5.00 mm; 1 volumes are censored.")

    def test_nothing_known(self):
        markup = draw_trace(np.full(4, np.nan), name="Motion", unit="mm", kept=np.ones(4, dtype=bool))
        assert Drawn(markup).points("trace") == []


def test_a_curve_lies_above_its_random_band_where_it_is_better():
    curve = Curve(np.array([10, 100, 1000]), np.array([0.5, 0.7, 0.6]), np.full(3, 0.2), np.full(3, 0.01))
    drawn = Drawn(draw_curve(curve, name="Quality", chosen=100))
    (line,) = drawn.points("trace")
    (null,) = drawn.points("null")
    assert np.all(line[:, 1] < null[:, 1]), "higher on the page"
    np.testing.assert_allclose(np.diff(line[:, 0])[0], np.diff(line[:, 0])[1], atol=0.2)
    (chosen,) = drawn.all("circle", "chosen")
    assert float(chosen["cx"]) == pytest.approx(line[1, 0])
    assert {"10", "100", "1,000"} <= set(drawn.texts)
    assert "100: 0.700 (random 0.200)" in drawn.label
    bar = drawn.all("line", "null-bar")[1]
    unit = (null[1, 1] - line[1, 1]) / 0.5
    assert float(bar["y1"]) - float(bar["y2"]) == pytest.approx(0.04 * unit, abs=0.2)


def test_a_curve_of_one_number_is_a_dot():
    one = Curve(np.array([100]), *(np.array([value]) for value in (0.5, 0.3, 0.05)))
    assert len(Drawn(draw_curve(one, name="Quality")).all("circle", "dot")) == 1


def test_strips_have_a_tick_for_each_value():
    values = np.array([1.0, 2.0, 4.0, 8.0])
    drawn = Drawn(draw_strips([Strip("few", values), Strip("<b>", values)], name="Size", is_log=True))
    ticks = [float(x) for x in re.findall(r"M([\d.]+)", drawn.all("path", "ticks")[0]["d"])]
    np.testing.assert_allclose(np.diff(ticks), np.diff(ticks)[0], atol=0.2)
    assert drawn.label == "Size. few: from 1 to 8, median 3. <b>: from 1 to 8, median 3."
    assert "<b>" in drawn.texts


class TestVoxels:
    def test_a_carpet_shows_censored_volumes_in_colour(self):
        kept = np.array([True, False, True, True])
        before = np.arange(8, dtype=np.uint8).reshape(2, 4) * 20
        (drawn,) = Drawn(draw_carpet(before, name="Before", kept=kept)).pictures()
        np.testing.assert_array_equal(drawn, np.repeat(before[..., np.newaxis], 3, axis=2))
        (drawn,) = Drawn(draw_carpet(before[:, kept], name="After", kept=kept, is_cleaned=True)).pictures()
        np.testing.assert_array_equal(drawn[:, kept, 0], before[:, kept])
        assert np.ptp(drawn[:, 1], axis=-1).min() > 100

    def test_a_carpet_lies_below_its_trace(self):
        kept = np.ones(30, dtype=bool)
        (trace,) = Drawn(draw_trace(np.arange(30.0), name="x", unit="", kept=kept)).points("trace")
        (image,) = Drawn(draw_carpet(np.zeros((3, 30), dtype=np.uint8), name="x", kept=kept)).all("image")
        left, width = float(image["x"]), float(image["width"])
        np.testing.assert_allclose(left + (np.arange(30) + 0.5) * width / 30, trace[:, 0], atol=0.1)

    def test_a_matrix_keeps_its_orientation(self):
        matrix = np.array([[1.0, -1.0], [0.0, np.nan]])
        (drawn,) = Drawn(draw_matrix(matrix, label="Correlations")).pictures()
        np.testing.assert_array_equal(drawn, color_correlations(matrix))
        (drawn,) = Drawn(draw_matrix(np.eye(900), label="Correlations")).pictures()
        assert max(drawn.shape) <= 240

    def test_coverage_has_a_row_for_each_participant(self):
        shares = np.array([[1.0, 1.0], [0.0, 0.5]])
        drawn = Drawn(draw_coverage(shares, ["sub-01", "sub-02"], label="Coverage"))
        np.testing.assert_array_equal(drawn.pictures()[0], color_shares(shares))
        assert drawn.texts == ["sub-01", "sub-02"]
        many = Drawn(draw_coverage(np.ones((31, 2)), ["sub"] * 31, label="Coverage"))
        assert many.texts == []

    def test_slices_are_upright_and_to_scale(self):
        labels = np.zeros((8, 10, 12), dtype=np.int32)
        labels[1:7, 1:9, 1:11] = 1 + (np.indices((6, 8, 10))[2] > 4)
        grid = Grid(labels.shape, np.diag([3.0, 3, 3, 1]))
        parcels = Parcellation(labels, grid, describe_parcels(labels, grid))
        rows = cut_parcels(parcels, n_cuts=1)
        drawn = Drawn(draw_slices(rows, label="Slices"))
        scales = {
            round(float(image[side]) / length, 2)
            for image, (each,) in zip(drawn.all("image"), rows, strict=True)
            for side, length in zip(("width", "height"), each.size, strict=True)
        }
        assert max(scales) - min(scales) <= 0.011
        coronal = drawn.pictures()[1]
        upper, lower = (tuple(coronal[int(share * len(coronal)), coronal.shape[1] // 2]) for share in (0.25, 0.75))
        colors = [tuple(int(color[i : i + 2], 16) for i in (1, 3, 5)) for color in parcels.table["color"]]
        assert (lower, upper) == tuple(colors)
        assert [text for text in drawn.texts if len(text) == 1] == ["L", "R", "L", "R", "P", "A"]
