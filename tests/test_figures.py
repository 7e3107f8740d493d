"""Pictures of parcellations: what is drawn where, whatever way the grid lies."""

import subprocess
import sys
from itertools import permutations, product

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from bids_parcellate.errors import UsageError
from bids_parcellate.numerics.grids import Grid
from bids_parcellate.parcels.atlas import Parcellation, describe_parcels
from bids_parcellate.report.figures import draw_parcellation

SHAPE = (9, 11, 13)
AFFINE = np.array([[2.0, 0, 0, -8], [0, 3.0, 0, -15], [0, 0, 1.5, -9], [0, 0, 0, 1]])


def parcellation_of(labels, affine=AFFINE):
    grid = Grid(labels.shape, affine)
    return Parcellation(labels.astype(np.int32), grid, describe_parcels(labels, grid))


def octants():
    """Eight parcels, one for each corner of the grid: 1 + 4 * right + 2 * front + top."""
    right, front, top = (index >= size // 2 + 1 for index, size in zip(np.indices(SHAPE), SHAPE, strict=True))
    return 1 + 4 * right + 2 * front + 1 * top


def pictures(figure):
    return [np.asarray(ax.images[0].get_array()) for ax in figure.axes]


def titles(figure):
    return [ax.get_title() for ax in figure.axes]


def colors_of(parcellation):
    return [tuple(round(255 * channel) for channel in to_rgb(color)) for color in parcellation.table["color"]]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_lies_where_its_title_says(axis):
    planes = np.broadcast_to(np.indices(SHAPE)[axis] + 1, SHAPE)
    parcellation = parcellation_of(planes)
    figure = draw_parcellation(parcellation)
    seen = 0
    for ax, picture in zip(figure.axes, pictures(figure), strict=True):
        name, _, position, unit = ax.get_title().replace("\N{MINUS SIGN}", "-").split()
        assert unit == "mm"
        if name == "xyz"[axis]:
            index = (float(position) - AFFINE[axis, 3]) / AFFINE[axis, axis]
            expected = colors_of(parcellation)[round(index)]
            height, width, _ = picture.shape
            assert tuple(picture[height // 2, width // 2]) == expected
            seen += 1
    assert seen == 6


def test_left_is_left_and_the_front_is_up_or_right():
    parcellation = parcellation_of(octants())
    figure = draw_parcellation(parcellation, n_cuts=1)
    assert titles(figure) == ["z = 0 mm", "y = 0 mm", "x = 0 mm"]
    axial, coronal, sagittal = pictures(figure)

    def label_at(picture, across, up):
        """Find the label at the left or right, and at the lower or upper end; rows go up from the first."""
        height, width, _ = picture.shape
        pixel = picture[round((0.2 + 0.6 * up) * height), round((0.2 + 0.6 * across) * width)]
        return colors_of(parcellation).index(tuple(pixel))

    assert all(ax.images[0].origin == "lower" for ax in figure.axes)
    for across, up in product((0, 1), (0, 1)):
        assert label_at(axial, across, up) & 0b110 == 4 * across + 2 * up
        assert label_at(coronal, across, up) & 0b101 == 4 * across + up
        assert label_at(sagittal, across, up) & 0b011 == 2 * across + up
    marks = [[text.get_text() for text in ax.texts] for ax in figure.axes]
    assert marks == [["L", "R"], ["L", "R"], ["P", "A"]]


def turned(volume, affine, order, flips):
    """Store the same image along other axes, each of them perhaps backwards."""
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for new, old in enumerate(order):
        step[old, new] = -1 if flips[new] else 1
        step[old, 3] = volume.shape[old] - 1 if flips[new] else 0
    stored = np.flip(volume.transpose(order), axis=[axis for axis in range(3) if flips[axis]])
    return stored, affine @ step


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_how_an_image_is_stored_does_not_show(order):
    rng = np.random.default_rng(0)
    labels, background = octants(), rng.random(SHAPE)
    expected = draw_parcellation(parcellation_of(labels), background=background, n_cuts=1)
    for flips in product((False, True), repeat=3):
        stored, affine = turned(labels, AFFINE, order, flips)
        below, _ = turned(background, AFFINE, order, flips)
        figure = draw_parcellation(parcellation_of(stored, affine), background=below, n_cuts=1)
        assert titles(figure) == titles(expected)
        for picture, reference in zip(pictures(figure), pictures(expected), strict=True):
            np.testing.assert_array_equal(picture, reference)


def test_without_a_background_parcels_have_exactly_the_colours_of_their_table():
    labels = np.zeros(SHAPE, dtype=int)
    labels[2:-2, 2:-2, 2:-2] = octants()[2:-2, 2:-2, 2:-2]
    parcellation = parcellation_of(labels)
    table = parcellation.table.assign(color=[f"#{value:02x}8040" for value in range(200, 208)])
    drawn = pictures(draw_parcellation(Parcellation(parcellation.labels, parcellation.grid, table), n_cuts=2))
    pixels = {tuple(map(int, pixel)) for picture in drawn for pixel in np.unique(picture.reshape(-1, 3), axis=0)}
    bright = {pixel for pixel in pixels if max(pixel) > 199}
    assert bright == {(value, 0x80, 0x40) for value in range(200, 208)}
    assert all(max(pixel) < 70 for pixel in pixels - bright), "the rest is black, or a line between parcels"


def test_a_line_separates_neighbours_of_one_colour():
    parcellation = parcellation_of(1 + (np.indices(SHAPE)[0] > 4))
    table = parcellation.table.assign(color="#ffffff")
    axial = pictures(draw_parcellation(Parcellation(parcellation.labels, parcellation.grid, table)))[0]
    dark = (axial < 128).all(axis=(0, 2))
    assert dark.sum() == 1
    assert np.flatnonzero(dark)[0] / len(dark) == pytest.approx(5 / 9, abs=0.01)


def test_the_background_is_grey_around_the_parcels_and_shines_through():
    labels = np.zeros(SHAPE, dtype=int)
    labels[3:6, 3:7, 3:9] = 1
    ramp = np.linspace(0, 1000, SHAPE[0])[:, None, None] * np.ones(SHAPE)
    ramp[0, 0, 0], ramp[1, 0, 0] = np.nan, np.inf
    plain, shaded = (pictures(draw_parcellation(parcellation_of(labels), background=b))[0] for b in (None, ramp))
    edge = shaded[5]
    assert (edge == edge[:, :1]).all(), "grey"
    assert (np.diff(edge[:, 0].astype(int)) >= 0).all()
    assert edge[-1, 0] > edge[0, 0] + 50
    middle = tuple(size // 2 for size in plain.shape[:2])
    assert tuple(plain[middle]) == colors_of(parcellation_of(labels))[0]
    assert tuple(shaded[middle]) != tuple(plain[middle])


@pytest.mark.parametrize("background", [np.zeros(SHAPE), np.ones(SHAPE, dtype=bool), np.indices(SHAPE).sum(0) == 0])
def test_a_background_may_be_a_mask(background):
    assert np.isfinite(pictures(draw_parcellation(parcellation_of(octants()), background=background))[0]).all()


def test_a_background_on_another_grid_is_refused():
    with pytest.raises(UsageError, match=r"\(9, 11, 12\).*\(9, 11, 13\)"):
        draw_parcellation(parcellation_of(octants()), background=np.zeros((9, 11, 12)))


@pytest.mark.parametrize(("axis", "position"), [(0, "x = 4 mm"), (1, "y = 15 mm"), (2, "z = \N{MINUS SIGN}3 mm")])
def test_a_grid_one_slice_thick_gives_that_slice(axis, position):
    at = (6, 10, 4)[axis]
    corners, labels = np.unique(np.take(octants(), [at], axis=axis), return_inverse=True)
    assert len(corners) == 4
    affine = AFFINE.copy()
    affine[:3, 3] += affine[:3, axis] * at
    parcellation = parcellation_of(labels + 1, affine)
    figure = draw_parcellation(parcellation)
    assert titles(figure) == [position]
    pixels = {tuple(map(int, pixel)) for pixel in pictures(figure)[0].reshape(-1, 3)}
    assert pixels >= set(colors_of(parcellation))


def test_a_single_voxel_can_be_drawn():
    labels = np.zeros(SHAPE, dtype=int)
    labels[4, 5, 6] = 1
    assert titles(draw_parcellation(parcellation_of(labels))) == ["z = 0 mm", "y = 0 mm", "x = 0 mm"]


def test_positions_on_an_oblique_grid_are_about():
    cosine, sine = np.cos(0.2), np.sin(0.2)
    turn = np.eye(4)
    turn[:3, :3] = [[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]
    figure = draw_parcellation(parcellation_of(octants(), turn @ AFFINE), n_cuts=1)
    assert titles(figure) == ["z ≈ 0 mm", "y ≈ 0 mm", "x ≈ 0 mm"]


def test_all_slices_have_one_scale():
    figure = draw_parcellation(parcellation_of(octants()))
    width, height = figure.get_size_inches()
    scales = []
    for ax in figure.axes:
        _, across, _, up = ax.images[0].get_extent()
        box = ax.get_position()
        scales += [box.width * width / across, box.height * height / up]
    np.testing.assert_allclose(scales, scales[0])


def test_a_title_is_taken_as_it_is():
    figure = draw_parcellation(parcellation_of(octants()), title="$broken")
    assert [text.get_text() for text in figure.texts] == ["$broken"]
    figure.savefig("/dev/null", format="png", dpi=20)


def test_drawing_needs_no_pyplot():
    code = "import sys, bids_parcellate.report.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert isinstance(draw_parcellation(parcellation_of(octants())), Figure)


def test_without_matplotlib_the_message_says_what_to_install():
    code = "import sys; sys.modules['matplotlib'] = None; import bids_parcellate.report.figures"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UsageError: Figures need a library that is not installed: matplotlib" in done.stderr
    assert "pip install 'bids-parcellate[plotting]'" in done.stderr
