"""The report in a real browser, from disk: no error, pictures load, charts are drawn, sorting and zooming work."""

import runpy
import shutil
from pathlib import Path

import pytest
from conftest import make_tiny
from many import many_images

from lib.report.page import render_page

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
pytestmark = pytest.mark.slow


@pytest.fixture
def browser():
    api = pytest.importorskip("playwright.sync_api")
    installed = next(filter(None, map(shutil.which, BROWSERS)), None)
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=installed)
        except api.Error as error:
            pytest.skip(f"no browser starts here: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """The report of a tiny run that went through every stage."""
    tiny = make_tiny(tmp_path_factory.mktemp("run"))
    flags = ["--report.pictures", "2", "--train.seeds", "42", "43", "--clean.list_below", "-1", "--clean.pictures", "3"]
    flags += ["--train.evaluations", "1"]
    for stage, *more in [
        ("01_preprocess",), ("02_make_folds",), ("03_train",), ("04_pseudo_label", "--train.round", "1"),
        ("04_pseudo_label", "--clean"), ("05_infer_ensemble",),
    ]:  # fmt: skip
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(tiny), *flags, *more])
    return tiny.parent / "work/report/index.html"


def opened(browser, index, **options):
    """(page, the list of what its console complains about)."""
    page, complaints = browser.new_page(**options), []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
    page.goto(index.as_uri())
    return page, complaints


def test_the_report_works_from_disk(browser, index):
    page, complaints = opened(browser, index)
    requests = []
    page.on("request", lambda request: requests.append(request.url))

    # Pictures load as they come into view, and all of them do.
    waiting = page.locator("img[loading=lazy]")
    assert waiting.count() > 20
    for i in range(waiting.count()):
        waiting.nth(i).scroll_into_view_if_needed()
    page.wait_for_function("[...document.querySelectorAll('img[loading=lazy]')].every(i => i.complete)")
    assert page.evaluate("[...document.querySelectorAll('img[loading=lazy]')].every(i => i.naturalWidth > 0)")
    assert all(url.startswith(("file:", "data:")) for url in requests)

    # Sorting: by numbers, both ways.
    table = page.locator("#oof .block", has_text="Images, worst first").locator("table")
    scores = lambda: [float(v) for v in table.locator("tbody tr:visible td:nth-child(3)").all_inner_texts()]  # noqa: E731
    head = table.locator("thead th", has_text="score")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending" and scores() == sorted(scores())
    head.locator("button").click()
    assert scores() == sorted(scores(), reverse=True) and len(set(scores())) > 1

    # Filtering, in the table that is long enough: eight images are not, nine rows of suspects are.
    block = page.locator("#suspects .block", has_text="Suspects, worst first")
    rows = block.locator("tbody tr:visible")
    every = rows.count()
    name = rows.last.locator("td").nth(1).inner_text()
    block.locator("input[type=search]").fill(f"{name.upper()} _y")
    assert 0 < rows.count() < every and all(name in text for text in rows.all_inner_texts())
    block.locator("input[type=search]").fill("nothing of the kind")
    assert rows.count() == 0
    block.locator("input[type=search]").fill("")
    assert rows.count() == every

    # Zooming: opened, moved on by key and button, at full size, closed.
    lens = page.locator("#lens")
    assert not lens.is_visible()
    page.locator("#galleries .zoom").first.click()
    assert lens.is_visible()
    first = lens.locator("img").get_attribute("src")
    page.keyboard.press("ArrowRight")
    assert lens.locator("img").get_attribute("src") != first
    lens.locator("button[data-by='-1']").click()
    assert lens.locator("img").get_attribute("src") == first
    lens.locator("img").click()
    assert "full" in lens.get_attribute("class")
    page.keyboard.press("Escape")
    assert not lens.is_visible()

    assert complaints == []


def test_charts_are_drawn_zoomed_and_saved(browser, index):
    page, complaints = opened(browser, index)
    page.wait_for_function("window.Plotly")
    charts = page.locator(".figure")
    assert charts.count() > 6
    for i in range(charts.count()):
        charts.nth(i).scroll_into_view_if_needed()
        charts.nth(i).locator(".main-svg").first.wait_for()

    assert page.locator(".js-plotly-plot").count() == charts.count(), "each is drawn once"

    # A line has the same colour in all charts, and the colours are the page's.
    colours = "c => [...c.querySelectorAll('.js-line')].map(line => line.style.stroke)"
    loss = page.locator("#training .figure").first
    light = loss.evaluate(colours)
    assert len(light) == 8 and len(set(light)) == 4, "four lines, in the chart and in its legend"
    page.locator("#theme").click()
    loss.scroll_into_view_if_needed()
    page.wait_for_function(
        "([c, old]) => c.querySelector('.js-line').style.stroke !== old", arg=[loss.element_handle(), light[0]]
    )

    # Hovering shows the value; dragging zooms, and a double click shows all again.
    range_of = "c => c.querySelector('.js-plotly-plot').layout.xaxis.range.map(Number)"
    before, box = loss.evaluate(range_of), loss.locator(".nsewdrag").bounding_box()
    across = lambda share: (box["x"] + share * box["width"], box["y"] + box["height"] / 2)  # noqa: E731
    page.mouse.move(*across(0.3))
    page.mouse.down()
    page.mouse.move(*across(0.6), steps=4)
    page.mouse.up()
    after = loss.evaluate(range_of)
    assert before[0] < after[0] < after[1] < before[1]
    page.locator("#training .figure").nth(1).locator(".point").first.hover(force=True)
    page.locator(".hoverlayer .hovertext").first.wait_for()
    assert loss.locator("[data-title^='Download plot']").count() == 1
    assert complaints == []


def test_without_the_library_the_page_says_so(browser, index, tmp_path):
    shutil.copy(index, tmp_path / "index.html")
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    page.locator(".figure p", has_text="plotly.min.js is missing beside this page").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_a_phone_light_and_dark(browser, index, scheme):
    page, complaints = opened(browser, index, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out at the side"
    colours = "(e => { const s = getComputedStyle(e); return [s.color, s.backgroundColor]; })(document.body)"
    ink, ground = (sum(map(int, c.strip("rgb()").split(", "))) / 3 for c in page.evaluate(colours))
    assert ground - ink > 150 if scheme == "light" else ink - ground > 150
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") != scheme
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") != scheme, "the choice is remembered"
    assert complaints == []


def test_five_hundred_images_open_quickly(browser, tmp_path):
    index = render_page(many_images(tmp_path, 500))
    page, complaints = opened(browser, index)
    entry = "performance.getEntriesByType('navigation')[0]"
    timing = page.evaluate(f"{entry}.domContentLoadedEventEnd - {entry}.startTime")
    loaded = page.evaluate("[...document.images].filter(i => i.complete && i.naturalWidth).length")
    print(f"{timing:.0f} ms until the page can be used, {loaded} of 1000 pictures loaded")
    assert timing < 2000
    assert loaded < 250, "pictures that nobody sees are not fetched"
    assert page.locator("#oof tbody tr").count() > 500 and complaints == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
