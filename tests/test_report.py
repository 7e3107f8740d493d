"""The report: what it says, that it is one file, and that whoever reads it can."""

import base64
import gzip
import hashlib
import html
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_parcellate.config import build_config
from bids_parcellate.io.naming import OutputNames
from bids_parcellate.numerics.grids import Grid
from bids_parcellate.outputs.derivatives import RunRecord
from bids_parcellate.parcels.atlas import Parcellation, describe_parcels, parcel_color
from bids_parcellate.report.group_page import (
    GroupResult,
    HTMLReport,
    group_content,
    mean_background,
    render_parcellation_report,
    write_group_report,
)
from bids_parcellate.report.pages import render_report
from bids_parcellate.report.readings import Coverage

NASTY = "<script>alert('\"&amp;')</script>"
METHODS = """\
# Methods

Two <b>paragraphs</b>,
of text.

Here & there.

## References

- One (1963).
- Two - a
  long one.
"""

# Elements that HTML never closes.
VOID = {"br", "hr", "img", "input", "link", "meta"}


class Page(HTMLParser):
    """What a browser would find in a page; it is an error if elements are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text, self.headings = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and re.fullmatch("h[1-6]", self.open[-1]):
            level, text = self.headings[-1]
            self.headings[-1] = level, text + data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def values(self, attribute):
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def make_parcellation(n_parcels):
    shape = (8, 8, 8)
    labels = np.minimum(np.arange(512).reshape(shape) * n_parcels // 500, n_parcels - 1) + 1
    labels[0, 0, 0] = 0
    grid = Grid(shape, np.array([[2.0, 0, 0, -8], [0, 2, 0, -8], [0, 0, 3, -12], [0, 0, 0, 1]]))
    return Parcellation(labels.astype(np.int32), grid, describe_parcels(labels, grid))


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    return OutputNames(tmp_path_factory.mktemp("out"), "MNI152NLin2009cAsym", "Study", "ward", "simple")


@pytest.fixture(scope="module")
def result(names):
    """Four runs of three participants, of which one is lost; two resolutions."""
    config = build_config({"bids_dir": "in", "output_dir": str(names.root), "analysis_level": "group"})
    records = [
        RunRecord("01", "sub-01_run-1", "bids:x:a", None, n_volumes=200, n_kept=100, mean_fd=0.1),
        RunRecord("01", "sub-01_run-2", "bids:x:b", "It is <b>too</b> short & small.", n_volumes=20, used=False),
        RunRecord("02", "sub-02", "bids:x:c", None, n_volumes=1200, n_kept=300, mean_fd=0.3),
        RunRecord("03", NASTY, "bids:x:d", "No mask.", used=False),
    ]
    command = ["bids-parcellate", "in", str(names.root), "group", "--atlas-name", "a b"]
    return GroupResult(
        config, [make_parcellation(5), make_parcellation(12)], records, METHODS, command, ["Beware <i>."]
    )


@pytest.fixture(scope="module")
def content(names, result):
    return group_content(names, result)


@pytest.fixture(scope="module")
def page(content):
    return Page(render_report(content))


@pytest.fixture(scope="module")
def single():
    parameters = {"method": "ward", "mask": None, "note": NASTY}
    return render_parcellation_report(make_parcellation(5), title=f"Ward {NASTY}", parameters=parameters)


@pytest.fixture(params=["group", "parcellation"])
def any_page(request, content, single):
    return render_report(content) if request.param == "group" else single


class TestAnyPage:
    def test_it_is_one_file_that_asks_for_nothing(self, any_page):
        page = Page(any_page)
        assert page.values("src") == []
        pictures = [picture["href"] for picture in page.all("image")]
        assert pictures
        assert all(source.startswith("data:image/png;base64,") for source in pictures)
        style = any_page[any_page.index("<style>") : any_page.index("</style>")]
        assert not re.search(r"url\(|@import|https?:", style)
        addresses = [attributes["href"] for tag in ("a", "link") for attributes in page.all(tag)]
        assert addresses
        assert not [address for address in addresses if re.match(r"[a-z]+:|/", address) and address != "data:,"]
        (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
        assert "unsafe-eval" not in policy
        assert policy.count("unsafe-inline") == 1

    def test_only_scripts_that_the_page_names_by_their_digest_run(self, any_page):
        policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', any_page)[1])
        scripts = re.findall(r"<script>(.*?)</script>", any_page, flags=re.DOTALL)
        library = re.findall(r'id="viewer-library">(.*?)</script>', any_page, flags=re.DOTALL)
        texts = [script.encode() for script in scripts] + [gzip.decompress(base64.b64decode(each)) for each in library]
        digests = [f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in texts]
        assert re.findall(r"'sha256-[^']*'", policy) == digests
        assert ("script-src" in policy) == bool(digests)

    def test_links_within_the_page_lead_somewhere(self, any_page):
        page = Page(any_page)
        ids = page.values("id")
        assert len(ids) == len(set(ids))
        assert {address[1:] for address in page.values("href") if address.startswith("#")} <= set(ids)
        assert set(page.values("aria-labelledby")) <= set(ids)

    def test_headings_nest(self, any_page):
        levels = [level for level, _ in Page(any_page).headings]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(step <= 1 for step in np.diff(levels))

    def test_pictures_have_words(self, any_page):
        page = Page(any_page)
        pictures = [picture for picture in page.all("svg") if "class" in picture]
        assert pictures
        for picture in pictures:
            assert picture["role"] == "img"
            assert len(picture["aria-label"]) > 30
        for picture in page.all("image"):
            content = picture["href"].removeprefix("data:image/png;base64,")
            assert base64.b64decode(content, validate=True).startswith(b"\x89PNG")

    def test_the_keyboard_reaches_what_scrolls_and_where(self, any_page):
        page = Page(any_page)
        scrolling = [attributes for _, attributes in page.elements if "scroll" in attributes.get("class", "").split()]
        assert scrolling
        for attributes in scrolling:
            assert attributes["tabindex"] == "0"
            assert attributes["role"] == "group"
            assert attributes["aria-label"]
        links = [attributes["href"] for attributes in page.all("a")]
        assert links[0] == "#content"
        assert all(field["id"] for tag in ("select", "input") for field in page.all(tag))

    def test_tables_have_headers(self, any_page):
        page = Page(any_page)
        assert page.all("table")
        assert all(header["scope"] in ("row", "col") for header in page.all("th"))

    def test_text_is_escaped(self, any_page):
        assert NASTY not in any_page
        assert NASTY in html.unescape(any_page)


def luminance(color):
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("ink", ["text", "muted", "link"])
@pytest.mark.parametrize("ground", ["ground", "raised", "warning-ground", "fine-ground"])
def test_contrast_is_that_of_wcag_aa(single, scheme, ink, ground):
    light, dark = re.findall(r":root \{(.*?)\}", single, flags=re.DOTALL)
    colors = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", light if scheme == "light" else dark))
    lighter, darker = sorted((luminance(colors[ink]), luminance(colors[ground])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


class TestGroupReport:
    def test_key_figures(self, content):
        assert dict(content.facts) == {
            "Participants used": "2 of 3",
            "Runs used": "2 of 4",
            "Volumes kept": "400 of 1,400",
            "Mean framewise displacement": "0.25 mm",
            "Parcels": "5, 12",
            "Denoising": "simple",
            "Voxels": "511",
            "Voxel size": "2 x 2 x 3 mm",
        }

    def test_warnings_come_first(self, page, content):
        assert list(content.warnings) == [
            "Beware <i>.",
            "2 of 4 runs left out, for the reasons below.",
            "Participants without any run: sub-03.",
        ]
        assert page.words.index("Beware <i>.") < page.words.index("Volumes kept")

    def test_without_warnings_it_says_so(self, content):
        quiet = Page(render_report(replace(content, warnings=(), runs=content.runs[:1])))
        assert "There are no warnings." in quiet.words
        assert "Every run that was found was used." in quiet.words

    def test_single_voxels_are_a_warning(self, names, result):
        labels = np.ones((8, 8, 8), dtype=np.int32)
        labels[0, 0, 0] = 2
        grid = result.parcellations[0].grid
        lonely = Parcellation(labels, grid, describe_parcels(labels, grid))
        warnings = group_content(names, replace(result, parcellations=[lonely], records=result.records[:1])).warnings
        assert list(warnings) == ["Beware <i>.", "1 of 2 parcels hold a single voxel."]

    def test_runs_with_their_reasons(self, page):
        assert "sub-01_run-2 It is <b>too</b> short & small." in page.words
        assert "sub-01_run-1 used 200 100 50% 0.100" in page.words
        assert "sub-01_run-2 left out 20 n/a n/a n/a" in page.words
        assert f"{NASTY} left out n/a n/a n/a n/a" in page.words

    def test_displacement_that_nobody_knows(self, names, result):
        records = [replace(record, mean_fd=float("nan")) for record in result.records]
        content = group_content(names, replace(result, records=records, parcellations=result.parcellations[:1]))
        assert content.facts["Mean framewise displacement"] == "n/a"
        assert "nan" not in Page(render_report(content)).words.split()

    def test_each_parcellation_with_its_table(self, page, result):
        headings = [text for _, text in page.headings]
        assert headings.index("5 parcels") < headings.index("12 parcels")
        first = result.parcellations[0].table.iloc[0]
        place = " ".join(f"{first[axis]:,.1f}" for axis in "xyz")
        row = f"1 parcel001 {first['hemisphere']} {place} {first['n_voxels']} {first['volume_mm3']:,.0f}"
        assert row in page.words
        swatches = [attributes["style"] for attributes in page.all("span") if "style" in attributes]
        assert swatches == [f"background-color: {parcel_color(n)}" for n in (*range(5), *range(12))]

    def test_methods_are_not_mere_text(self, content):
        methods = re.search(r'<section class="text".*?>\n(.*?)\n</section>', render_report(content), re.DOTALL)[1]
        assert methods == (
            "<h2>Methods</h2>\n<p>Two &lt;b&gt;paragraphs&lt;/b&gt;,\nof text.</p>\n<p>Here &amp; there.</p>\n"
            "<h3>References</h3>\n<ul>\n<li>One (1963).\n</li>\n<li>Two - a\n  long one.</li>\n</ul>"
        )

    def test_command_and_versions(self, page, names):
        assert f"bids-parcellate in {names.root} group --atlas-name 'a b'" in page.words
        assert f"numpy {np.__version__}" in page.words
        assert 'method = "ward"' in page.words

    def test_links_are_the_names_of_the_outputs(self, page, names):
        links = {names.root / unquote(link) for link in page.values("href") if link.startswith("tpl-")}
        extensions = (".nii.gz", ".tsv", ".json")
        assert links == {names.parcellation(n_parcels, ext) for n_parcels in (5, 12) for ext in extensions}

    def test_the_same_job_gives_the_same_bytes(self, names, result, content):
        path = write_group_report(names, result)
        assert path == names.root / "group.html"
        assert path.read_text(encoding="utf-8") == render_report(content)

    def test_every_run_is_linked_to_the_page_of_its_participant(self, content):
        links = [link for link in Page(render_report(content)).values("href") if link.startswith("sub-")]
        assert [link.partition("#run-")[0] for link in links] == [f"sub-{run.participant}.html" for run in content.runs]
        assert len(set(links)) == 4

    def test_sections_appear_where_their_data_are_given(self, names, result):
        figures = pd.DataFrame(
            [(5, "homogeneity", 0.5, 0.2, 0.1), (12, "homogeneity", 0.6, 0.3, 0.1), (5, "<i>", 7, None, None)],
            columns=["n_parcels", "figure", "value", "random_mean", "random_sd"],
        )
        full = replace(
            result,
            coverage=Coverage(["01", "02"], np.array([[1.0, 0.9], [0.4, 1.0]])),
            figures=figures,
            reason="Five is best.",
        )
        few, all_of_them = ([part.title for part in group_content(names, each).sections] for each in (result, full))
        assert few == ["Sizes", "Motion"]
        assert all_of_them == ["Quality", "Sizes", "Coverage", "Motion"]
        text = render_report(group_content(names, full))
        words = html.unescape(text)
        assert "<i>" not in text
        assert "Five is best." in words
        assert "<i></th><td>7</td><td>n/a</td>" in words
        assert "1 of 2 parcels lack half of their voxels or more in some participant." in words
        assert "least in sub-02 with 70.0%" in words
        assert "Homogeneity by number of parcels. 5: 0.500 (random 0.200), 12: 0.600 (random 0.300)." in words

    def test_parcels_no_better_than_random_ones_are_a_warning(self, names, result):
        rows = [
            (5, "held_out_explained_variance", 0.25, 0.2, 0.1),
            (12, "held_out_explained_variance", 0.5, 0.2, 0.1),
            (5, "split_half_adjusted_rand", 0.1, 0.3, 0.05),
            (12, "split_half_adjusted_rand", 0.1, 0.3, 0.05),
            (99, "split_half_adjusted_rand", 0.1, 0.3, 0.05),  # a candidate that was not chosen
            (5, "boundary_coefficient", 0.3, 0.0, 0.1),
            (5, "homogeneity", 0.1, 0.3, 0.05),
        ]
        figures = pd.DataFrame(rows, columns=["n_parcels", "figure", "value", "random_mean", "random_sd"])
        warnings = group_content(names, replace(result, figures=figures)).warnings
        assert [warning for warning in warnings if "random" in warning] == [
            "Held-out explained variance: 5 parcels do no better than random ones of the same sizes (see Quality).",
            "Split-half adjusted Rand index: 5 and 12 parcels do no better than random ones of the same sizes "
            "(see Quality).",
        ]

    def test_titles_name_the_atlas_of_each_number_of_parcels(self, names, result):
        assert group_content(names, result).title == "Atlas Study"
        assert group_content(replace(names, atlas="Study{}"), result).title == "Atlases Study5, Study12"

    def test_every_number_of_parcels_has_its_picture(self, content):
        drawn = [part.slices for part in content.parcellations]
        assert [drawing.label for drawing in drawn] == ["Slices through 5 parcels", "Slices through 12 parcels"]
        assert drawn[0].markup != drawn[1].markup

    @settings(deadline=None, max_examples=25)
    @given(text=st.text(st.sampled_from("<>&\"'`=/ abc{}%#-\n"), min_size=1))
    def test_no_text_becomes_markup(self, content, page, text):
        record = RunRecord(text, text, text, text, n_volumes=1, used=False)
        changed = replace(content, title=text, runs=[record], warnings=[text], command=text, configuration=text)
        other = Page(render_report(replace(changed, viewer=None)))
        assert {tag for tag, _ in other.elements} < {tag for tag, _ in page.elements}
        assert other.text.count(text) >= 5
        elsewhere, expected = (
            [link for link in each.all("a") if not link["href"].startswith("sub-")] for each in (other, page)
        )
        assert elsewhere == expected
        (link,) = [link for link in other.values("href") if link.startswith("sub-")]
        assert link.partition("#run-")[0] == f"sub-{quote(text)}.html"

    def test_fine_grids_and_many_parcels_stay_small(self, names, result):
        shape = (97, 115, 97)
        blocks = np.ravel_multi_index([index // 10 for index in np.indices(shape)], (10, 12, 10)) + 1
        grid = Grid(shape, np.diag([2.0, 2, 2, 1]))
        fine = Parcellation(blocks.astype(np.int32), grid, describe_parcels(blocks, grid))
        background = np.cos(np.indices(shape) / 9).sum(axis=0)
        one = replace(result, parcellations=[fine], background=background)
        assert len(render_report(group_content(names, one))) < 3e6


class TestHTMLReport:
    def test_in_a_notebook(self, single):
        frame = Page(HTMLReport(single)._repr_html_())
        assert frame.all("iframe")[0]["srcdoc"] == single
        assert single not in repr(HTMLReport(single))

    def test_saved(self, single, tmp_path):
        HTMLReport(single).save_as_html(str(tmp_path / "report.html"))
        assert (tmp_path / "report.html").read_text(encoding="utf-8") == single

    @pytest.mark.parametrize("name", [None, "my report.html"])
    def test_opened(self, single, tmp_path, monkeypatch, name):
        opened = []
        monkeypatch.setattr("webbrowser.open", opened.append)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        HTMLReport(single).open_in_browser(tmp_path / name if name else None)
        (path,) = tmp_path.rglob("*.html")
        assert opened == [path.as_uri()]
        assert path.read_text(encoding="utf-8") == single


def test_reports_need_no_plotting_library():
    code = "import sys; from bids_parcellate.report import group_page, run_pages; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestMeanBackground:
    GRID = Grid((2, 2, 1), np.eye(4))

    def test_runs_of_any_units_count_alike(self):
        voxels = np.array([0, 1, 3])
        runs = [(voxels, scale * np.array([1.0, 2.0, 3.0], dtype=np.float32)) for scale in (1, 1000)]
        np.testing.assert_allclose(mean_background(runs, self.GRID).ravel(), [0.5, 1, 0, 1.5])

    def test_a_voxel_is_averaged_over_the_runs_that_have_it(self):
        first = (np.array([0, 1, 2]), np.array([2, 2, 2], dtype=np.float32))
        second = (np.array([2]), np.array([5], dtype=np.float32))
        np.testing.assert_allclose(mean_background([first, second], self.GRID).ravel(), [1, 1, 1, 0])
