import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from bids_parcellate import Parcellations


@pytest.fixture(scope="module")
def ward(study):
    images = sorted(study[0].rglob("*_desc-preproc_bold.nii.gz"))[:1]
    return Parcellations("ward", n_parcels=12).fit(images)


def test_plot_is_a_figure_in_which_parcels_have_their_colours(ward, tmp_path):
    figure = ward.plot(title="twelve")
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "parcels.png")
    pixels = np.rint(255 * imread(tmp_path / "parcels.png")[..., :3]).astype(int).reshape(-1, 3)
    seen = {"#" + "".join(f"{channel:02x}" for channel in color) for color in np.unique(pixels, axis=0)}
    assert set(ward.parcels_["color"]) <= seen


def test_report_is_one_file_with_parcels_and_parameters(ward, tmp_path):
    report = ward.generate_report(title="Twelve <parcels>")
    report.save_as_html(tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert "Twelve &lt;parcels&gt;" in html
    assert "smoothing_fwhm" in html
    assert "parcel012" in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert report._repr_html_()
