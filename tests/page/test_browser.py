"""The page in a real browser: it loads, sorts and opens, keeps to its width, and asks for nothing.

The checks: no message on the console; no request but the page itself; both orders of a sorted table, told by
`aria-sort`; a user opens and is found; hostile words are text and change nothing; dark and light differ; no sideways
scrolling at 360 and 1400 pixels; text contrast; names, captions, headings and ids that a screen reader needs; a page of 200 users loads at once.
"""

import json
import re
import shutil
from contextlib import contextmanager

import pytest
from hostile_texts import HOSTILE, cases_of, hostile_shop

import srec
from srec.data.folder import Dataset

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing; pip install '.[dev]' brings it")
WebDriverWait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait
pytestmark = pytest.mark.browser

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
)
LOADS_IN_S = 2.0
LOADS = 3
MOST_MB = 5.0
SIZES = {"wide": 1400, "narrow": 360}

CONTRAST = """
const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const [r, g, b, a = 1] = rgb(getComputedStyle(node).backgroundColor);
    if (a === 1) return [r, g, b];
  }
  return [255, 255, 255];
};
const poor = new Set();
for (const node of document.querySelectorAll("body *:not(script):not(.said)")) {
  const says = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!says || !node.checkVisibility()) continue;
  const style = getComputedStyle(node);
  const [a, b] = [light(rgb(node.closest("svg") ? style.fill : style.color)), light(behind(node))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) poor.add(`${node.tagName}.${node.className}: ${ratio.toFixed(2)}`);
}
return [...poor];
"""

RULES = """
const faults = [];
const told = (node) => `${node.tagName.toLowerCase()} ${node.id || node.textContent.trim().slice(0, 40)}`;
const check = (holds, rule, node) => holds || faults.push(`${rule}: ${told(node)}`);
const all = (selector) => [...document.querySelectorAll(selector)];
const words = (node) => (node ? node.textContent.trim() : "");
const referred = (node, name) => (node.getAttribute(name) || "").split(/\\s+/).filter(Boolean);
const given = (node) =>
  (node.getAttribute("aria-label") || "").trim() ||
  referred(node, "aria-labelledby").map((id) => words(document.getElementById(id))).join("");
const own = (node) => {
  const copy = node.cloneNode(true);
  copy.querySelectorAll("[aria-hidden=true]").forEach((one) => one.remove());
  return words(copy);
};

check(document.documentElement.lang, "has a language", document.documentElement);
check(document.title.trim(), "has a title", document.head);
check(all("h1").length === 1, "has one h1", document.body);
check(all("main").length === 1, "has one main part", document.body);
let level = 0;
for (const node of all("h1, h2, h3, h4, h5, h6")) {
  check(own(node), "a heading says something", node);
  check(Number(node.tagName[1]) <= level + 1, "no level of headings is skipped", node);
  level = Number(node.tagName[1]);
}
const ids = all("[id]").map((node) => node.id);
for (const node of all("[id]")) check(ids.indexOf(node.id) === ids.lastIndexOf(node.id), "an id is unique", node);
for (const name of ["aria-labelledby", "aria-describedby", "aria-controls"])
  for (const node of all(`[${name}]`))
    check(referred(node, name).every((id) => document.getElementById(id)), `${name} points at something`, node);
for (const node of all("a[href^='#']"))
  check(document.getElementById(node.hash.slice(1)), "a link points at something", node);
for (const node of all("img")) check(node.hasAttribute("alt"), "a picture has an alt text", node);
for (const node of all("svg, [role=img]"))
  if (!node.closest("[aria-hidden=true]"))
    check(node.getAttribute("role") === "img" && given(node), "a drawing has a name or is hidden", node);
for (const node of all("table")) {
  check(words(node.caption) || given(node), "a table has a caption or a label", node);
  for (const head of node.querySelectorAll("th")) {
    check(own(head), "a head of a table says something", head);
    check(head.scope, "a head of a table has a scope", head);
  }
}
for (const node of all("a[href], button, summary, [role=button], [role=link]"))
  check(given(node) || own(node), "a control has a name", node);
for (const node of all("input, select, textarea"))
  check(given(node) || [...node.labels].some(own), "a field has a label", node);
for (const node of all("[tabindex], [role=region], nav"))
  check(given(node), "a part that takes the focus has a name", node);
for (const node of all("[tabindex]")) check(node.tabIndex <= 0, "the focus follows the order of the page", node);
for (const node of all("[aria-hidden=true]"))
  check(!node.querySelector("a[href], button, input, summary, [tabindex]"), "what is hidden takes no focus", node);
return faults;
"""
BROKEN = {
    "has a language": "document.documentElement.lang = ''",
    "has one h1": "document.querySelector('main').append(document.createElement('h1'))",
    "no level of headings is skipped": "document.querySelector('h2').outerHTML = '<h3>Metrics</h3>'",
    "an id is unique": "document.querySelector('h2').id = 'metrics'",
    "aria-labelledby points at something": "document.querySelector('h2').removeAttribute('id')",
    "a picture has an alt text": "document.querySelector('main').append(document.createElement('img'))",
    "a drawing has a name or is hidden": "document.querySelector('.key').removeAttribute('aria-hidden')",
    "a table has a caption or a label": "document.querySelector('caption').remove()",
    "a head of a table says something": "document.querySelector('thead button').textContent = ''",
    "a control has a name": "document.querySelector('thead button').textContent = ''",
    "a field has a label": "document.querySelector('label').replaceWith(document.getElementById('find'))",
    "a part that takes the focus has a name": "document.querySelector('.box').removeAttribute('aria-label')",
}


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no Chromium is installed; apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield started
    finally:
        started.quit()


@pytest.fixture(scope="module")
def page(small_run, tmp_path_factory):
    return srec.report(small_run, out=tmp_path_factory.mktemp("page") / "small.html").path


def show(browser, path, *, scheme="light", width=1400):
    """Load a page anew; what was logged before is forgotten."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(path.as_uri())


@contextmanager
def nothing_happens(browser, path):
    """No message and no request but for the page, from before the block to its end."""
    yield
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] in ([path.as_uri()], [])
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert [url for url in loaded if not url.startswith("data:")] == []


def test_a_screen_reader_finds_names_captions_and_an_outline(browser, page, large):
    for path in (page, large.path):
        show(browser, path)
        browser.execute_script("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        assert browser.execute_script(RULES) == []


@pytest.mark.parametrize("rule", BROKEN)
def test_the_rules_see_a_fault(browser, page, rule):
    show(browser, page)
    browser.execute_script(BROKEN[rule])
    faults = browser.execute_script(RULES)
    assert any(fault.startswith(f"{rule}: ") for fault in faults), faults


def test_long_names_leave_the_verdicts_and_first_values_in_a_narrow_window(browser, tmp_path):
    cases = cases_of(hostile_shop(items=16, users=8, seed=3), users=3, candidates="uniform:5")
    names = ["blend:markov+item-knn+popularity", "blend:markov+item-knn+recent-popularity"]
    srec.evaluate(cases, dict.fromkeys(names, "popularity"), out=tmp_path / "run")
    show(browser, srec.report(tmp_path / "run").path, width=390)
    right = "return document.querySelector(arguments[0]).getBoundingClientRect().right"
    for cell in ("#metrics td:nth-child(2)", "#pairs td:nth-child(3)"):
        assert browser.execute_script(right, cell) <= 390 - 16
    left = "return Math.min(...[...document.querySelectorAll('.plot .name')].map((one) => one.getBoundingClientRect().left))"
    assert browser.execute_script(left) >= 0


def column(browser, table, place):
    script = "return [...arguments[0].tBodies[0].rows].map((row) => row.cells[arguments[1]].dataset.value)"
    return [float(value) for value in browser.execute_script(script, table, place)]


@pytest.mark.parametrize("width", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_loads_without_errors_or_requests_in_any_scheme_and_width(browser, page, scheme, width):
    show(browser, page, scheme=scheme, width=width)
    with nothing_happens(browser, page):
        browser.execute_script("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        sizes = "const page = document.documentElement; return [page.scrollWidth, page.clientWidth, innerWidth]"
        wide, room, window = browser.execute_script(sizes)
    assert (wide, window) == (room, width)
    assert browser.execute_script(CONTRAST) == []
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    lightness = sum(map(int, re.findall(r"\d+", paper)[:3])) / 3
    assert lightness > 200 if scheme == "light" else lightness < 60


@pytest.mark.parametrize("width", SIZES.values(), ids=SIZES)
def test_many_targets_make_no_page_wide_and_the_best_ranks_are_told(browser, tmp_path, width):
    items = [srec.Item(item_id=f"i{n:03}", title=f"thing {n}") for n in range(120)]
    rows = [(f"u{user}", f"i{n:03}", 60 * n, 5.0) for user in range(4) for n in range(user, 90 + user)]
    data = Dataset.of("many", items, rows)
    cases = srec.cases(data, task="like:5", protocol="global-time", cutoffs=[600], candidates="uniform:20")
    assert min(len(case.target_ids) for case in cases) > 60
    report = srec.evaluate(cases, "popularity", out=tmp_path / "run")
    show(browser, srec.report(tmp_path / "run").path, width=width)
    browser.execute_script("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    wide, room = browser.execute_script(
        "const all = document.documentElement; return [all.scrollWidth, all.clientWidth]"
    )
    assert wide == room
    best = min(min(case.ranks) for case in report.rankers["popularity"].cases)
    told = browser.execute_script("return [...document.querySelectorAll('.placed')].map((one) => one.textContent)")
    assert any(re.fullmatch(rf"target at {best:g}, .* and \d+ more of \d+", one) for one in told)


def test_a_click_sorts_a_table_and_another_turns_it_round(browser, page):
    show(browser, page)
    table = browser.find_element("css selector", "#metrics table")
    before = column(browser, table, 1)
    with nothing_happens(browser, page):
        table.find_element("css selector", "thead th:nth-child(2) button").click()
        heads = table.find_elements("css selector", "thead th")
        assert [head.get_attribute("aria-sort") for head in heads[:3]] == [None, "descending", None]
        assert column(browser, table, 1) == sorted(before, reverse=True)
        heads[1].find_element("css selector", "button").send_keys("\n")
        assert heads[1].get_attribute("aria-sort") == "ascending"
        assert column(browser, table, 1) == sorted(before)
        heads[0].find_element("css selector", "button").click()
    assert [head.get_attribute("aria-sort") for head in heads[:2]] == ["ascending", None]
    assert table.find_element("css selector", "tfoot th").text == "chance"


def test_a_user_opens_and_shows_everything(browser, page):
    show(browser, page)
    with nothing_happens(browser, page):
        user = browser.find_element("css selector", "details.user")
        assert not user.find_element("css selector", ".timeline").is_displayed()
        user.find_element("css selector", "summary").click()
        for part in (".timeline", ".tastes", ".chips", ".ranked", ".standings", ".target"):
            assert user.find_element("css selector", part).is_displayed(), part
        shown = user.find_elements("css selector", ".timeline .pic")
        assert all("url(" in one.value_of_css_property("background-image") for one in shown)
        drawn = "const image = new Image(); image.src = arguments[0]; const done = arguments[1]; "
        drawn += (
            "image.onload = () => done([image.naturalWidth, image.naturalHeight]); image.onerror = () => done([0, 0])"
        )
        source = shown[0].value_of_css_property("background-image").removeprefix('url("').removesuffix('")')
        width, height = browser.execute_async_script(drawn, source)
    assert 0 < max(width, height) <= 96


def test_users_are_found_by_what_is_told_of_them(browser, page):
    show(browser, page)
    users = browser.find_elements("css selector", "details.user")
    name = users[1].find_element("css selector", ".who").text
    find = browser.find_element("id", "find")
    find.send_keys(name)
    assert [user.is_displayed() for user in users].count(True) == 1
    assert browser.find_element("id", "found").text == f"1 of {len(users)}"
    find.clear()
    find.send_keys("x")
    find.send_keys("\b")
    assert all(user.is_displayed() for user in users)


def test_hostile_words_are_text_and_do_nothing(browser, page):
    show(browser, page)
    with nothing_happens(browser, page):
        browser.execute_script("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        text = browser.find_element("tag name", "body").text
    assert browser.title == "srec: toyshop, next"
    for words in (HOSTILE[0], HOSTILE[1]):
        assert words in text
    assert "⟨U+202E⟩gnp.exe⟨U+202C⟩" in browser.find_element("tag name", "body").get_attribute("textContent")
    assert browser.execute_script("return [document.scripts.length, document.images.length]") == [1, 0]


def test_what_a_script_would_fetch_is_refused_by_the_policy(browser, page):
    show(browser, page)
    fetched = "const done = arguments[0]; const image = new Image(); image.src = 'http://127.0.0.1:9/x.png'; "
    fetched += "image.onload = () => done('loaded'); image.onerror = () => done('refused')"
    assert browser.execute_async_script(fetched) == "refused"
    said = " ".join(entry["message"] for entry in browser.get_log("browser"))
    assert "Content Security Policy" in said


@pytest.fixture(scope="module")
def large(large_run, tmp_path_factory):
    return srec.report(large_run, out=tmp_path_factory.mktemp("page") / "large.html", users=200)


def test_a_page_of_200_users_loads_at_once(browser, large):
    """Measured as the processor time of the page's thread, which does not depend on what else the machine does."""
    assert large.shown == 200
    assert large.size < MOST_MB * 1e6
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    show(browser, large.path)
    with nothing_happens(browser, large.path):
        measured = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        assert len(browser.find_elements("css selector", "details.user")) == 200
    took = {one["name"]: one["value"] for one in measured}
    assert 0 < took["TaskDuration"] < LOADS_IN_S


def test_a_page_of_200_users_is_there_within_two_seconds(browser, large):
    """Wall time until the load event has ended; the best of three, since what else runs here can only add to it."""
    ended = "return performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
    took = []
    for _ in range(LOADS):
        show(browser, large.path)
        # `get` comes back while the event is still handled, when its end reads 0
        took.append(WebDriverWait(browser, 10).until(lambda at: at.execute_script(ended)))
    assert 0 < min(took) < LOADS_IN_S, took
