"""The pages as a real browser shows them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from batch_pipeline.measure.gate import GateDecision
from batch_pipeline.report import index_path, report_path, write_report
from batch_pipeline.stages.scorecard import empty_scorecard
from batch_pipeline_tests.report.browser import Look, chromium, looker
from batch_pipeline_tests.report.made_history import History, add_batches, card_of, make

HOSTILE = "</script><img src=x onerror=alert(1)>\"'><style>*{display:none}</style>"
PAGES = ("full", "first", "huge", "index")

CONTRASTS = """
() => {
  const channel = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => .2126 * channel(c[0]) + .7152 * channel(c[1]) + .0722 * channel(c[2]);
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const clear = c => c.length === 4 && c[3] === 0;
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length && !clear(c)) return c;
    }
    return [255, 255, 255];
  };
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; node = walk.nextNode();) {
    const e = node.parentElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
    if (!node.data.trim() || !box.width || box.right < 0 || e.closest('title, desc')) continue;
    if (style.visibility === 'hidden' || !e.checkVisibility()) continue;
    const a = light(parse(e.closest('svg') ? style.fill : style.color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    const size = parseFloat(style.fontSize), bold = style.fontWeight >= 700;
    found.push([ratio / (size >= 24 || (bold && size >= 18.66) ? 3 : 4.5), ratio, node.data.trim().slice(0, 40)]);
  }
  return found;
}
"""

UNLABELLED = """
() => {
  const wrong = [], ids = [...document.querySelectorAll('[id]')].map(e => e.id);
  const say = (what, e) => wrong.push(what + ': ' + e.outerHTML.slice(0, 90));
  if (new Set(ids).size !== ids.length) wrong.push('an id is there twice');
  for (const e of document.querySelectorAll('svg:not([aria-hidden])')) {
    const names = (e.getAttribute('aria-labelledby') || '').split(' ').map(id => document.getElementById(id));
    if (e.getAttribute('role') !== 'img' || !names.length || names.some(n => !n || !n.textContent.trim())) say('unnamed', e);
  }
  for (const e of document.querySelectorAll('[aria-labelledby]'))
    for (const id of e.getAttribute('aria-labelledby').split(' ')) if (!document.getElementById(id)) say('named by nothing', e);
  for (const e of document.querySelectorAll('th')) if (!['row', 'col'].includes(e.scope)) say('th without scope', e);
  for (const e of document.querySelectorAll('table')) if (!e.tHead || !e.tHead.rows.length) say('no head', e);
  for (const e of document.querySelectorAll('[tabindex="0"], section, nav'))
    if (!e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby')) say('unnamed region', e);
  for (const e of document.querySelectorAll('ul, dl'))
    if ([...e.children].some(c => !(e.tagName === 'UL' ? ['LI'] : ['DIV', 'DT', 'DD']).includes(c.tagName))) say('no list item', e);
  const levels = [...document.querySelectorAll('h1,h2,h3,h4')].map(e => +e.tagName[1]);
  if (levels[0] !== 1 || levels.filter(l => l === 1).length !== 1) wrong.push('not one h1, first');
  levels.forEach((l, n) => { if (n && l > levels[n - 1] + 1) wrong.push('a heading skips a level'); });
  for (const name of ['main', 'header', 'footer'])
    if (document.querySelectorAll(name).length !== 1) wrong.push('not one ' + name);
  if (document.documentElement.lang !== 'en') wrong.push('no language');
  return wrong;
}
"""


@dataclass(frozen=True)
class Made:
    """The pages that the tests look at, and how to open them."""

    pages: dict[str, Path]
    look: Callable[..., Look]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as environment, chromium() as browser:
        environment.setenv("BATCH_PIPELINE_STATE", str(folder / "state"))
        pages = {"full": _full(folder), "first": _first(folder), "huge": _huge(folder)}
        pages["index"] = index_path(folder / "state")
        yield Made(pages, looker(browser))


def _full(folder: Path) -> Path:
    """Three months with gaps, a change, a held load, a fall and a broken slice of a hostile name."""
    history = History(
        slices={"channel": ["card", "fees", "top-up", HOSTILE]},
        labels=("billing", HOSTILE),
        missing=(20, 21, 22, 50),
        changed=60,
        held=(0, 33),
        validity=lambda back: {0: 0.975, 1: 0.983, 2: 0.989}.get(back, 0.994),
        slice_rate=lambda name, back: 0.75 if name == HOSTILE and back == 0 else 0.994,
    )
    gates = {"min_validity": 0.95, "golden_drop_points": 3, "max_cost_usd": 25}
    night = make(folder, history, name="full", gates=gates)
    add_batches(night, [0.3, 0.7, 19.5, None])
    closed = GateDecision(False, [f"validity fell {HOSTILE}", "another reason"], "f")
    return write_report(night.context, card_of(night, history, gate=closed, promoted_rows=0))


def _first(folder: Path) -> Path:
    """Nothing known yet: no history, no golden set, not a single row."""
    night = make(folder, History(nights=0, golden=0), name="first")
    return write_report(night.context, empty_scorecard("first", night.context.load))


def _huge(folder: Path) -> Path:
    history = History(nights=365, slices={"label": [f"slice number {n}" for n in range(200)]})
    night = make(folder, history, name="huge")
    add_batches(night, [n / 10 for n in range(1, 60)])
    reasons = [
        ("human_review", f"contract: field_{n} is not what it is to be", 1) for n in range(10_000)
    ]
    return write_report(night.context, card_of(night, history, reasons=reasons))


@pytest.mark.parametrize("name", PAGES)
def test_it_asks_for_nothing_but_itself_and_says_nothing(made: Made, name: str) -> None:
    look = made.look(made.pages[name])

    assert look.said == []
    assert look.asked_for == [made.pages[name].as_uri()]


@pytest.mark.parametrize(("name", "least"), [("full", 9), ("huge", 9), ("first", 0)])
def test_every_chart_has_a_picture(made: Made, name: str, least: int) -> None:
    look = made.look(made.pages[name])
    boxes = look.run(
        "[...document.querySelectorAll('svg.chart')].map(e => [e.getBoundingClientRect().width,"
        " e.getBoundingClientRect().height, e.querySelector('.line').getBBox().width])"
    )
    broken = look.run(
        "[...document.querySelectorAll('svg, svg *')].filter(e => [...e.attributes]"
        ".some(a => /NaN|undefined|None|\\binf/.test(a.value) && a.name !== 'aria-labelledby')).length"
    )

    assert len(boxes) >= least
    assert all(min(box) > 100 for box in boxes)
    assert broken == 0


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_the_window(made: Made, name: str) -> None:
    look = made.look(made.pages[name])
    for width in (320, 480, 1280):
        look.page.set_viewport_size({"width": width, "height": 900})
        # Only what scrolls by itself may be wider than its place.
        wide = look.run(
            f"[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > {width}"
            " && !e.closest('.wide, .scroll')).map(e => e.outerHTML.slice(0, 80))"
        )
        assert wide == []
        assert look.run("document.documentElement.scrollWidth") <= width


def test_the_text_of_charts_is_readable_on_a_narrow_screen(made: Made) -> None:
    sizes = made.look(made.pages["full"], 480).run(
        "[...document.querySelectorAll('svg.chart text')].map(e => parseFloat(getComputedStyle(e).fontSize)"
        " * e.closest('svg').getBoundingClientRect().width / 380)"
    )

    assert min(sizes) >= 11


@pytest.mark.parametrize("name", PAGES)
def test_all_text_stands_out_from_what_is_behind_it(made: Made, name: str) -> None:
    look = made.look(made.pages[name])
    for scheme, media in (("light", "screen"), ("dark", "screen"), ("dark", "print")):
        look.show(scheme, media)
        found = look.run(CONTRASTS)
        assert len(found) > 10
        assert [(round(ratio, 2), text) for share, ratio, text in found if share < 1] == []


def test_the_dark_page_is_dark_and_paper_is_white(made: Made) -> None:
    look = made.look(made.pages["first"])
    backs = []
    for scheme, media in (("light", "screen"), ("dark", "screen"), ("dark", "print")):
        look.show(scheme, media)
        backs.append(look.run("getComputedStyle(document.body).backgroundColor"))

    assert backs == ["rgb(244, 246, 250)", "rgb(16, 19, 26)", "rgb(255, 255, 255)"]


@pytest.mark.parametrize("name", ["full", "huge"])
def test_paper_shows_the_numbers_and_cuts_nothing(made: Made, name: str) -> None:
    # A4 less its margins.
    look = made.look(made.pages[name], 703)
    look.show("light", "print")
    cut = look.run(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('svg') && e.checkVisibility()"
        " && (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'visible'"
        " || e.getBoundingClientRect().right > 704)).map(e => e.outerHTML.slice(0, 80))"
    )
    hidden = look.run(
        "[...document.querySelectorAll('details table')].filter(e => !e.getBoundingClientRect().height).length"
    )

    assert cut == []
    assert hidden == 0


@pytest.mark.parametrize("name", ["full", "first", "index"])
def test_the_tab_key_reaches_everything_in_reading_order(made: Made, name: str) -> None:
    look = made.look(made.pages[name])
    wanted = look.run(
        "[...document.querySelectorAll('a, summary, [tabindex=\"0\"]')].filter(e => e.checkVisibility())"
        ".map((e, n) => (e.dataset.n = n, n))"
    )
    reached, rings = [], []
    for _ in wanted:
        look.page.keyboard.press("Tab")
        at, ring = look.run(
            "[+document.activeElement.dataset.n, getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached.append(at)
        rings.append(ring)

    assert reached == wanted
    assert set(rings) == {"solid"}


def test_the_first_stop_skips_to_the_content(made: Made) -> None:
    look = made.look(made.pages["full"])
    look.page.keyboard.press("Tab")
    assert look.run("document.activeElement.getBoundingClientRect().left") > 0
    look.page.keyboard.press("Enter")

    assert look.run("document.activeElement.id") == "content"


@pytest.mark.parametrize("name", PAGES)
def test_a_screen_reader_finds_names_headings_and_landmarks(made: Made, name: str) -> None:
    assert made.look(made.pages[name]).run(UNLABELLED) == []


def test_colour_never_stands_alone(made: Made) -> None:
    look = made.look(made.pages["full"])
    said = look.run(
        "[...document.querySelectorAll('.flag, .tile .word')].map(e => [e.querySelector('[aria-hidden]')?.textContent,"
        " e.lastChild.textContent.trim()])"
    )

    assert len(said) > 8
    assert all(shape and word for shape, word in said)


def test_hostile_names_are_text(made: Made) -> None:
    look = made.look(made.pages["full"])

    assert look.run("document.images.length + document.scripts.length") == 0
    assert look.run("document.styleSheets.length") == 1
    assert HOSTILE in look.run("document.querySelector('.heat tbody th').textContent")


def test_a_year_of_nights_and_ten_thousand_reasons_are_a_small_file(made: Made) -> None:
    assert made.pages["huge"].stat().st_size < 1_500_000


def test_details_open_without_a_script(made: Made) -> None:
    look = made.look(made.pages["full"])
    look.page.locator("summary").first.click()

    assert look.run("document.querySelector('details table').getBoundingClientRect().height") > 100


def test_the_index_leads_to_the_page_and_back(made: Made) -> None:
    look = made.look(made.pages["index"])
    look.page.get_by_role("link", name="full", exact=True).click()
    assert look.page.url == made.pages["full"].as_uri()
    look.page.get_by_role("link", name="All workloads").click()

    assert look.page.url == made.pages["index"].as_uri()
    assert report_path(Path("s"), "w", "d") == Path("s/reports/w/d.html")
