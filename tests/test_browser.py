"""The pages in a real browser: no errors, the viewer draws and answers, links work, paper and dark mode look right.

Pictures of them are kept, for eyes. Those of the documentation are made by

    BIDS_PARCELLATE_SCREENSHOTS=docs/images pytest tests/test_browser.py -k documentation
"""

import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from matplotlib.image import imread

from bids_parcellate.cli import main
from tests.reporting import write_pages

SCREENSHOTS = Path(os.environ.get("BIDS_PARCELLATE_SCREENSHOTS", Path(__file__).parents[1] / "build" / "screenshots"))

# WebGL without a graphics card; sandboxes need privileges that containers lack.
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
READY = "#viewer[data-state=ready]"
TIMEOUT = 120_000  # ms: drawing without a graphics card is slow on a busy machine


def must_have(reason):
    """Skip what cannot be tested here, but never in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        must_have("no Chromium found: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415
    except ImportError:
        must_have("Playwright is not installed: pip install playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def group_page(study, outputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages") / "outputs"
    shutil.copytree(outputs, folder)
    return write_pages(study[0], folder)


class Visit:
    """A page in the browser, and what went wrong there."""

    def __init__(self, browser, path, **options):
        self.context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900}, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(TIMEOUT)
        self.problems, self.requests = [], []
        self.page.on("console", self.note_message)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(Path(path).as_uri())

    def note_message(self, message):
        # How fast a machine without a graphics card reads pixels back is none of our business.
        if message.type in ("error", "warning") and "GPU stall" not in message.text:
            self.problems.append(message.text)

    def keep(self, name, target=None, **options):
        """Take a picture, give its bytes, and keep it in the folder for them."""
        content = (target or self.page).screenshot(**options)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        (SCREENSHOTS / f"{name}.png").write_bytes(content)
        return content


def pixels(content, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    return np.rint(255 * imread(path)[..., :3]).astype(int)


@pytest.fixture(scope="module")
def visit(browser, group_page):
    """The group's page, light, with its viewer."""
    visit = Visit(browser, group_page)
    visit.page.wait_for_selector(READY)
    yield visit
    visit.context.close()


@pytest.fixture
def viewer(visit):
    """The viewer as it starts: ten parcels in their own colours."""
    page = visit.page
    if page.locator("#viewer-parcel option").count() != 10:
        page.select_option("#viewer-parcellation", label="10")
        page.wait_for_selector("#viewer-parcel option:nth-child(30)", state="detached")
    page.wait_for_selector(READY)
    page.select_option("#viewer-colour", "parcels")
    page.locator("#viewer").scroll_into_view_if_needed()
    return page


def selected(page):
    return page.get_attribute("#viewer", "data-selected")


def canvas_pixels(page, tmp_path):
    page.wait_for_timeout(300)  # the next frame is drawn
    return pixels(page.locator("#viewer-canvas").screenshot(), tmp_path)


class TestViewer:
    def test_it_draws_parcels_in_many_colours(self, viewer, visit, tmp_path):
        drawn = canvas_pixels(viewer, tmp_path)
        visit.keep("viewer", viewer.locator("#viewer"))
        saturated = drawn.max(axis=-1) - drawn.min(axis=-1) > 60
        assert saturated.mean() > 0.05
        assert len(np.unique(drawn[saturated] // 32, axis=0)) > 10

    def test_a_click_selects_the_parcel_that_lies_there(self, viewer):
        box = viewer.locator("#viewer-canvas").bounding_box()
        names = {selected(viewer)}
        for across in (0.25, 0.32, 0.4):
            viewer.mouse.click(box["x"] + across * box["width"], box["y"] + 0.25 * box["height"])
            viewer.wait_for_timeout(200)
            names.add(selected(viewer))
            assert viewer.inner_text("#viewer-name") == selected(viewer)
        assert len(names) > 1

    def test_it_shows_what_the_table_says_of_the_parcel(self, viewer):
        name = viewer.locator("#viewer-parcel option").nth(6).inner_text()
        viewer.select_option("#viewer-parcel", label=name)
        assert viewer.inner_text("#viewer-name") == name == selected(viewer)
        row = viewer.locator("#parcels-10 ~ details tbody tr").nth(6)
        _, written, side, x, y, z, voxels, volume = (cell.strip() for cell in row.locator("td, th").all_text_contents())
        facts = dict(
            zip(
                viewer.locator("#viewer-facts dt").all_inner_texts(),
                [text.replace("\N{MINUS SIGN}", "-") for text in viewer.locator("#viewer-facts dd").all_inner_texts()],
                strict=True,
            )
        )
        assert written == name
        assert facts["Hemisphere"] == {"L": "left", "R": "right", "B": "both"}[side]
        assert facts["Voxels"] == voxels
        assert facts["Volume"] == f"{volume} mm³"
        centroid = [float(value) for value in facts["Centroid x, y, z"].removesuffix(" mm").split(",")]
        np.testing.assert_allclose(centroid, [float(value) for value in (x, y, z)], atol=0.51)
        assert 0 <= float(facts["Homogeneity"]) <= 1
        assert len(viewer.get_attribute("#viewer-series", "points").split()) > 50

    def test_partners_lead_to_each_other(self, viewer):
        partner = viewer.locator("#viewer-list button").first
        name = partner.inner_text()
        partner.click()
        assert selected(viewer) == name

    def test_colours_can_be_correlations_and_figures(self, viewer, visit, tmp_path):
        before = canvas_pixels(viewer, tmp_path)
        seen = [before]
        for choice in ("correlation", "0"):
            viewer.select_option("#viewer-colour", choice)
            seen.append(canvas_pixels(viewer, tmp_path))
            assert viewer.is_visible("#viewer-legend")
            visit.keep(f"viewer-{choice}", viewer.locator("#viewer"))
        for first, second in ((0, 1), (1, 2), (0, 2)):
            assert (np.abs(seen[first] - seen[second]).max(axis=-1) > 40).mean() > 0.03

    def test_another_number_of_parcels(self, viewer):
        assert viewer.locator("#viewer-parcel option").count() == 10
        viewer.select_option("#viewer-parcellation", label="30")
        viewer.wait_for_selector("#viewer-parcel option:nth-child(30)", state="attached")
        viewer.wait_for_selector(READY)
        viewer.select_option("#viewer-parcel", label="parcel030")
        assert selected(viewer) == "parcel030"

    def test_the_keyboard_moves_the_crosshair(self, viewer):
        before = viewer.inner_text("#viewer-place")
        viewer.focus("#viewer-canvas")
        viewer.keyboard.press("ArrowRight")
        assert viewer.inner_text("#viewer-place") != before

    def test_nothing_went_wrong_and_nothing_was_asked_for(self, visit, viewer):
        assert visit.problems == []
        schemes = {urlsplit(url).scheme for url in visit.requests}
        assert schemes <= {"file", "data", "blob"}
        assert {Path(unquote(urlsplit(url).path)).suffix for url in visit.requests if url.startswith("file:")} == {
            ".html"
        }


@pytest.mark.parametrize("blocked", ["javascript", "webgl"])
def test_without_the_viewer_the_slices_are_there_and_the_page_says_why(browser, group_page, blocked):
    visit = Visit(browser, group_page, java_script_enabled=blocked != "javascript")
    if blocked == "webgl":
        visit.page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
        visit.page.reload()
        visit.page.wait_for_selector("#viewer-unavailable")
        assert "WebGL 2" in visit.page.inner_text("#viewer-unavailable")
    else:
        assert "needs JavaScript" in visit.page.inner_text("body")
    assert not visit.page.is_visible("#viewer")
    assert visit.page.locator("svg.slices").first.is_visible()
    visit.context.close()


def test_text_of_files_does_not_run(visit):
    assert "<script>alert(1)</script>" in visit.page.inner_text("#content")


def test_links_lead_to_participants_and_back(browser, group_page):
    visit = Visit(browser, group_page)
    link = visit.page.locator("a[href^='sub-']").first
    run = link.inner_text()
    link.click()
    visit.page.wait_for_url("**/sub-*.html#*")
    assert visit.page.locator(f"h2:has-text('{run}')").is_visible()
    visit.keep("participant")
    visit.page.get_by_role("link", name="Group report").click()
    visit.page.wait_for_url("**/group.html")
    files = visit.page.locator("a[href]").evaluate_all("links => links.map((link) => link.href)")
    local = [Path(unquote(urlsplit(url).path)) for url in files if url.startswith("file:")]
    assert len(local) > 10
    assert all(path.is_file() for path in local)
    assert visit.problems == []
    visit.context.close()


def test_every_page_fits_its_window(browser, group_page):
    for path in sorted(group_page.parent.glob("*.html")):
        for width in (390, 1280):
            visit = Visit(browser, path)
            visit.page.set_viewport_size({"width": width, "height": 800})
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, (path.name, width)
            visit.context.close()


def test_the_keyboard_is_enough(browser, group_page):
    visit = Visit(browser, group_page)
    page = visit.page
    page.wait_for_selector(READY)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0, "it is shown once it has the focus"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    page.focus("#viewer-parcel")
    before = selected(page)
    page.keyboard.press("ArrowDown")
    assert selected(page) != before
    folded = page.locator("details").first
    folded.locator("summary").focus()
    page.keyboard.press("Enter")
    assert folded.locator("table").is_visible()
    assert visit.problems == []
    visit.context.close()


def luminances(browser, path, scheme, tmp_path):
    visit = Visit(browser, path, color_scheme=scheme)
    name = f"{path.stem}-{scheme}"
    shades = pixels(visit.keep(name), tmp_path).mean(axis=-1)
    visit.context.close()
    return shades


def test_dark_mode_is_dark_and_its_charts_can_be_read(browser, group_page, tmp_path):
    (page, *_) = sorted(group_page.parent.glob("sub-*.html"))
    light, dark = (luminances(browser, page, scheme, tmp_path) for scheme in ("light", "dark"))
    assert np.median(light) > 240
    assert np.median(dark) < 40
    for scheme in ("light", "dark"):
        visit = Visit(browser, page, color_scheme=scheme)
        chart = pixels(visit.page.locator("svg.chart").first.screenshot(), tmp_path).mean(axis=-1)
        assert np.ptp(chart) > 150, "ink stands out from the ground"
        visit.context.close()


def test_on_paper_there_is_no_viewer_and_no_cut_table(browser, group_page, tmp_path):
    visit = Visit(browser, group_page, color_scheme="dark")
    visit.page.wait_for_selector(READY)
    visit.page.emulate_media(media="print")
    assert not visit.page.is_visible("#viewer")
    assert not visit.page.is_visible("nav")
    assert visit.page.locator("svg.slices").first.is_visible()
    scrolling = "[...document.querySelectorAll('.scroll')].filter((e) => e.scrollHeight > e.clientHeight + 1).length"
    assert visit.page.evaluate(scrolling) == 0
    assert pixels(visit.keep("paper"), tmp_path).mean(axis=-1)[0, 0] > 240, "paper is white, in dark mode too"
    assert visit.page.pdf().startswith(b"%PDF")
    visit.context.close()


@pytest.fixture(scope="module")
def demo_page(finished_demo):
    """The page of the demo as it is."""
    return finished_demo / "demo" / "bids-parcellate" / "group.html"


@pytest.fixture(scope="module")
def real_page(shared_data, tmp_path_factory):
    """The page of a job on two real runs."""
    folder = tmp_path_factory.mktemp("real")
    dataset = shared_data / "real" / "twosub_mni4mm"
    options = ["--confounds", "none", "--n-parcels", "50", "200", "--nprocs", "1"]
    assert main([str(dataset), str(folder), "group", *options]) == 0
    return folder / "group.html"


@pytest.fixture(scope="module", params=["demo", "real"])
def finished(request):
    return request.param, request.getfixturevalue(f"{request.param}_page")


class TestFinishedJobs:
    """The pages that jobs have written, of simulated and of real data."""

    @pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
    def test_every_page_looks_as_it_should(self, browser, finished, width, scheme, tmp_path):
        name, group = finished
        for path in (group, min(group.parent.glob("sub-*.html"))):
            visit = Visit(browser, path, color_scheme=scheme)
            visit.page.set_viewport_size({"width": width, "height": 900})
            if path == group:
                visit.page.wait_for_selector(READY)
                drawn = canvas_pixels(visit.page, tmp_path)
                assert (np.ptp(drawn, axis=-1) > 60).mean() > 0.05, "parcels have colours"
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
            visit.page.add_style_tag(content="nav { position: static !important }")  # else it is in every part
            height = visit.page.evaluate("document.documentElement.scrollHeight")
            whole = {"x": 0, "y": 0, "width": width, "height": min(height, 8000)}  # Chromium draws no more at once
            visit.keep(f"{name}-{path.stem}-{width}-{scheme}", full_page=True, clip=whole)
            assert visit.problems == []
            visit.context.close()

    def test_a_click_selects_a_parcel_and_links_lead_there_and_back(self, browser, finished):
        visit = Visit(browser, finished[1])
        page = visit.page
        page.wait_for_selector(READY)
        page.locator("#viewer").scroll_into_view_if_needed()
        box = page.locator("#viewer-canvas").bounding_box()
        names = {selected(page)}
        for across in (0.2, 0.26, 0.32):
            page.mouse.click(box["x"] + across * box["width"], box["y"] + 0.75 * box["height"])
            page.wait_for_timeout(200)
            names.add(selected(page))
        assert len(names) > 1
        page.locator("a[href^='sub-']").last.click()
        page.wait_for_url("**/sub-*.html#*")
        assert page.locator("svg.carpet").count() >= 2
        page.get_by_role("link", name="Group report").click()
        page.wait_for_selector(READY)
        assert visit.problems == []
        visit.context.close()


class TestPicturesOfTheDocumentation:
    @pytest.fixture
    def shown(self, browser):
        visits = []

        def show(path, width, height):
            visits.append(Visit(browser, path))
            visits[-1].page.set_viewport_size({"width": width, "height": height})
            visits[-1].page.add_style_tag(content="html { scroll-padding-top: 0 } nav { position: static !important }")
            return visits[-1]

        yield show
        for visit in visits:
            visit.context.close()

    def assert_small(self, content):
        assert 20_000 < len(content) < 200_000

    def test_the_group(self, shown, demo_page):
        visit = shown(demo_page, 1000, 1200)
        visit.page.wait_for_selector(READY)
        visit.page.wait_for_timeout(500)
        self.assert_small(visit.keep("report-group"))

    def test_quality(self, shown, demo_page):
        visit = shown(demo_page, 1000, 520)
        visit.page.wait_for_selector(READY)
        visit.page.locator("#quality").evaluate("heading => heading.scrollIntoView()")
        self.assert_small(visit.keep("report-quality"))

    def test_the_viewer(self, shown, real_page):
        visit = shown(real_page, 1100, 900)
        visit.page.wait_for_selector(READY)
        visit.page.select_option("#viewer-colour", "correlation")
        visit.page.wait_for_timeout(500)
        self.assert_small(visit.keep("report-viewer", visit.page.locator("#viewer")))

    def test_a_participant(self, shown, demo_page):
        self.assert_small(shown(demo_page.with_name("sub-01.html"), 1100, 1250).keep("report-participant"))
