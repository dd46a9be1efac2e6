"""The page as text: what is on it, that it is whole, and that nothing from outside is more than text."""

import re
from base64 import b64encode
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hostile_texts import HOSTILE, cases_of, functions, hostile_shop

import srec
from srec.errors import InputError
from srec.evaluation.run_folder import read_run_folder
from srec.testing import oracle

VOID = {"meta", "link", "input", "br", "img"}
LOADING = {"src", "href", "srcset", "action", "poster", "data", "background", "ping", "formaction", "xlink:href"}


class Reader(HTMLParser):
    """Tags that are open, attributes that load, and everything that is said."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.loads, self.handlers, self.ids = [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.open += [] if tag in VOID else [tag]
        for name, value in attributes:
            self.loads += [value] if name in LOADING else []
            self.handlers += [name] if name.startswith("on") or name == "style" else []
            self.ids += [value] if name == "id" else []

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open = self.open[:-1] if tag not in VOID else self.open

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(small_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    written = srec.report(small_run, out=path)
    text = path.read_text("utf-8")
    assert (written.shown, written.cases, written.size) == (3, 3, len(text.encode()))
    return text


@pytest.fixture(scope="module")
def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def test_the_page_is_well_formed_and_loads_nothing(read):
    assert not read.open
    assert [value for value in read.loads if not value.startswith(("#", "data:"))] == []
    assert not read.handlers
    assert not set(read.tags) & {"img", "iframe", "object", "embed", "base", "form", "video", "audio", "image"}
    assert len(read.ids) == len(set(read.ids))


def test_there_is_one_script_and_one_style_and_the_policy_names_them_by_their_bytes(page, read):
    assert (read.tags.count("script"), read.tags.count("style")) == (1, 1)
    policy = unescape(re.search(r'Security-Policy" content="([^"]*)"', page)[1])
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag in ("script", "style"):
        code = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[1]
        digest = b64encode(sha256(code.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_hostile_words_are_on_the_page_as_text(page):
    for words in HOSTILE[:3]:
        assert words not in page
    assert "&lt;script&gt;document.title=&#39;owned&#39;&lt;/script&gt;" in page
    assert "\u202e" not in page
    assert "{{ 7 * 7 }}{% include &#39;page.html&#39; %}" in page


def test_every_section_is_there(page):
    for section in ("metrics", "pairs", "calibration", "cost", "users", "prompts"):
        assert f'<section id="{section}"' in page
        assert f'href="#{section}"' in page


@pytest.mark.parametrize("programs", [1, 2])
def test_headings_skip_no_level(tmp_path, programs):
    cases = cases_of(hostile_shop(items=16, users=8, seed=3), users=2, candidates="uniform:3")
    srec.evaluate(cases, {f"program {n}": functions() for n in range(programs)}, out=tmp_path / "run")
    page = srec.report(tmp_path / "run").path.read_text("utf-8")
    levels = [int(level) for level in re.findall(r"<h([1-6])\b", page)]
    assert levels.count(1) == 1
    assert max(levels) == 3 + programs
    assert all(after - before <= 1 for before, after in pairwise([0, *levels]))


def test_metrics_stand_with_interval_and_chance(page, small_run):
    report = read_run_folder(small_run).report
    cell = report["rankers"]["program"]["metrics"]["ndcg@10"]
    shown = f"{cell['value']:.3f}".removeprefix("0")
    assert re.search(rf'data-value="{re.escape(str(cell["value"]))}">{re.escape(shown)} <small>\[', page)
    assert f"{report['chance']['ndcg@10']:.3f}".removeprefix("0") in page


def test_a_name_that_is_cut_in_plots_stands_beside_the_whole_one(page):
    assert re.search(
        r"<bdi>&lt;script&gt;document[^<]*</bdi> <small>in plots <bdi>&lt;script&gt;…[^<]*</bdi></small>", page
    )


def test_pairs_stand_as_they_were_compared_and_noise_is_called_so(page, small_run):
    heads = ["first", "second", "told apart", "first less second"]
    section = re.search(r'<section id="pairs".*?</section>', page, re.DOTALL)[0]
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)</th>', section)[:4] == heads
    pairs = read_run_folder(small_run).report["comparisons"]
    rows = re.findall(
        r'<tr><th scope="row"><bdi>(.*?)</bdi></th><td><bdi>(.*?)</bdi></td>(.*?)</tr>', section, re.DOTALL
    )
    assert [(unescape(first), unescape(second)) for first, second, _ in rows] == [(one["a"], one["b"]) for one in pairs]
    for pair, (_, _, row) in zip(pairs, rows, strict=True):
        assert f'data-value="{pair["value"]}"' in row
        assert "<td>yes</td>" in row if pair["p_holm"] < 0.05 else "<td>no</td>" in row


def test_the_cost_of_every_stage_is_told(page):
    for stage in ("fusion", "preference", "profiling", "reasoning", "scoring"):
        assert f'<th scope="row">{stage}</th>' in page


@pytest.mark.parametrize(("candidates", "is_known"), [("uniform:5", True), ("full", False)])
def test_chance_stands_on_slices_where_every_case_has_as_many_candidates(tmp_path, candidates, is_known):
    cases = cases_of(hostile_shop(items=16, users=12, seed=3), users=12, candidates=candidates)
    report = srec.evaluate(cases, "popularity", out=tmp_path / "run")
    page = srec.report(tmp_path / "run", users=0).path.read_text("utf-8")
    slices = re.search(r'<section id="slices".*?</section>', page, re.DOTALL)[0]
    plots = re.findall(r"<svg.*?</svg>", slices, re.DOTALL)
    assert plots
    assert all(('class="chance"' in plot) is is_known for plot in plots)
    assert ('<th scope="col" class="num">chance</th>' in slices) is is_known
    assert ("is not known for a part" in slices) is not is_known
    shown = f"{report.chance['ndcg@10']:.3f}".removeprefix("0")
    assert (f'<td class="num">{shown}</td>' in slices) is is_known


def test_who_took_results_from_the_store_is_named_beside_the_plot_of_costs_and_not_in_it(tmp_path):
    shop = srec.toyshop(items=24, users=12, seed=5)
    cases = cases_of(shop.data, users=3, candidates="uniform:4")
    pages = []
    for out in ("fresh", "again"):
        rankers = {"popularity": "popularity", "program": srec.MLLMSRec()}
        made = srec.evaluate(cases, rankers, lm=oracle(shop), store=tmp_path / "store", out=tmp_path / out)
        pages.append(srec.report(tmp_path / out, users=0).path.read_text("utf-8"))
    fresh, again = (re.search(r'<svg class="plot costs".*?</svg>', page, re.DOTALL)[0] for page in pages)
    assert ">program</text>" in fresh
    assert "Left out of the plot of costs" not in pages[0]
    assert ">program</text>" not in again
    hits = made.rankers["program"].cache_hits
    assert f"<bdi>program</bdi>: {hits:,} results from the store (fusion " in pages[1]
    assert "), 0 LM calls</li>" in pages[1]


@pytest.mark.parametrize(("task", "said"), [("next", "<time>"), ("like:1", "from <time>")])
def test_the_second_of_a_case_is_the_date_of_a_target_only_where_it_is(tmp_path, task, said):
    cases = cases_of(hostile_shop(items=16, users=8, seed=3), users=3, candidates="uniform:3", task=task)
    srec.evaluate(cases, "popularity", out=tmp_path / "run")
    text = srec.report(tmp_path / "run").path.read_text("utf-8")
    found = re.findall(r'<span class="when">(.*?)</span><span class="badge">', text)
    assert found
    assert all(one.startswith(said) for one in found)
    assert all(one.endswith("</time>" if task == "next" else "</time> on") for one in found)


def test_a_changed_prompt_shows_what_was_added(page):
    assert "1 of 8 prompts differ" in page
    assert re.search(r"<ins><span class=\"said\">added: </span>Weigh &lt;script&gt;", page)


def test_a_picture_is_in_the_page_once(page):
    pictures = re.findall(r"url\(data:image/webp;base64,([^)]+)\)", page)
    assert pictures
    assert len(pictures) == len(set(pictures))


def test_the_same_run_makes_the_same_page(page, small_run, tmp_path):
    srec.report(small_run, out=tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text("utf-8") == page


def test_without_users_there_is_no_picture_and_no_user(small_run, tmp_path):
    assert srec.report(small_run, out=tmp_path / "page.html", users=0).shown == 0
    assert "data:image" not in (tmp_path / "page.html").read_text("utf-8")


def test_an_unknown_ranker_or_choice_is_refused_by_name(small_run):
    with pytest.raises(InputError, match="'nobody' is not in this run; it has popularity"):
        srec.report(small_run, ranker="nobody")
    with pytest.raises(InputError, match="choice 'all' is not known; give worst, best, random"):
        srec.report(small_run, choice="all")


@pytest.mark.parametrize("name", ["run.json", "users.jsonl", "images/page.html", "images/../report.json"])
def test_a_page_takes_no_file_of_the_run(small_run, name):
    with pytest.raises(InputError, match="a file of the run itself"):
        srec.report(small_run, out=small_run / name)
    assert srec.report(small_run, out=small_run / "other.html", users=0).cases == 3
