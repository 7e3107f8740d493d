"""Colours: as an independent model of colour blindness sees them; tables: as their readers parse them."""

import numpy as np
import pandas as pd
import pytest

from bids_parcellate.parcels.colors import freesurfer_table, fsleyes_table, parcel_color

# Machado, Oliveira, Fernandes (2009): how those without one kind of cone see linear RGB.
EYES = {
    "normal": np.eye(3),
    "red-blind": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green-blind": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "blue-blind": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def channels(n_colors):
    return np.array([list(bytes.fromhex(parcel_color(number)[1:])) for number in range(n_colors)]) / 255


def cielab(rgb, eye):
    """CIE 1976 L*a*b*: two units are hardly told apart side by side."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(EYES[eye]).T, 0, 1)
    x, y, z = (seen @ TO_XYZ.T / (TO_XYZ @ np.ones(3))).T
    f = [np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116) for t in (x, y, z)]
    return np.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])], axis=1)


def smallest_difference(lab, steps):
    return min(np.linalg.norm(lab[step:] - lab[:-step], axis=1).min() for step in steps)


@pytest.mark.parametrize("eye", EYES)
def test_neighbouring_numbers_look_different_to_every_eye(eye):
    lab = cielab(channels(400), eye)
    assert smallest_difference(lab, [1]) > 15
    assert smallest_difference(lab, [2, 3, 4]) > 6


def test_colours_do_not_repeat():
    rgb = channels(400)
    assert len(np.unique(rgb, axis=0)) == 400
    assert smallest_difference(cielab(rgb, "normal"), range(1, 25)) > 5


def test_colours_are_seen_on_black_and_on_white():
    lightness = cielab(channels(400), "normal")[:, 0]
    assert lightness.min() > 20
    assert lightness.max() < 95


PARCELS = pd.DataFrame({"index": [1, 2], "name": ["a b", "c"], "color": ["#ff0080", "#000001"]})


def test_fsleyes_reads_value_colour_and_name():
    rows = [line.split(None, 4) for line in fsleyes_table(PARCELS).splitlines()]
    assert [(int(row[0]), row[4]) for row in rows] == [(1, "a_b"), (2, "c")]
    np.testing.assert_allclose(
        [list(map(float, row[1:4])) for row in rows], [[1, 0, 128 / 255], [0, 0, 1 / 255]], atol=1e-5
    )


def test_freesurfer_reads_value_name_and_colour():
    assert freesurfer_table(PARCELS) == "0 Unknown 0 0 0 0\n1 a_b 255 0 128 0\n2 c 0 0 1 0\n"
