"""report.html: self-contained, safe against the names in it, and alive in a real browser; palette and figures."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import combinations

import numpy as np
import pytest
from markupsafe import escape
from report_runs import write_evaluation, write_positions, write_run

from longrun.report import palette
from longrun.report.compose import compose
from longrun.report.html import page, script_json

HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)>|`${1}"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--window-size=1280,2000"]
FLAGS += ["--enable-logging=stderr", "--v=0", "--virtual-time-budget=4000", "--dump-dom"]
CLICKS = """(() => {
const out = {}, all = (s) => [...document.querySelectorAll(s)], one = (s) => document.querySelector(s);
const click = (s) => one(s).dispatchEvent(new MouseEvent("click", {bubbles: true}));
const lines = (id) => all(`#${id} g[data-label]`).filter((g) => g.querySelector("path.line"));
const names = (id) => lines(id).map((g) => g.dataset.label).sort();
const group = (label) => lines("lengths-full").find((g) => g.dataset.label === label);
const outline = (label) => group(label).querySelector("path.line").getAttribute("d");

out.drawn = names("lengths-full");
out.charts = all(".chart:not(.off) > svg").length;
out.markers = group("rope").querySelectorAll(".marker").length;
out.controls = all("#lengths-full path.control").length;
out.bands = all("#lengths-full path.band").length;
out.detail = getComputedStyle(one("#lengths-detail")).display;
out.ticks = all("#lengths-full text").map((t) => t.textContent);

const chart = one("#lengths-full svg");
chart.dispatchEvent(new PointerEvent("pointermove", {clientX: chart.getBoundingClientRect().left + 55}));
out.tip = one("#lengths-full .tip").textContent;
chart.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
out.next = one("#lengths-full .tip").textContent;

const before = outline("alibi");
click(".legend button[data-label='rope']");
out.hidden = names("lengths-full");
out.pressed = one(".legend button[data-label='rope']").getAttribute("aria-pressed");
out.rescaled = before !== outline("alibi");
out.elsewhere = names("training-loss");
click(".legend button[data-label='rope']");
out.again = names("lengths-full");

click("[data-set='metric=bpb']");
out.tables = all(".table[data-metric]:not(.off)").map((t) => t.id);
click("[data-set='metric=gap']");
out.gap_log = one("[data-set='scale=log']").disabled;
click("[data-set='controls=toggle']");
out.controls_off = all("#lengths-full path.control").length;
click("[data-set='study=1']");
out.study = names("lengths-full");

const look = () => [document.documentElement.dataset.theme, getComputedStyle(document.body).backgroundColor];
out.look = [look()];
click("#theme");
out.look.push(look());
out.title = document.title;
out.images = all("img").length;
out.fits = document.documentElement.scrollWidth <= innerWidth;
document.documentElement.dataset.outcome = JSON.stringify(out);
})()"""


class Attributes(HTMLParser):
    """Every attribute in the page that can make a browser fetch something."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href", "action", "srcset", "poster")]


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The page's text for a root with an exploding, a flat, a refusing and a maliciously named scheme."""
    root = tmp_path_factory.mktemp("page")
    for scheme in ("alibi", "rope", "learned"):
        for seed in (0, 1):
            folder = write_run(root, scheme, seed, refused=(256, 512, 1024, 2048) if scheme == "learned" else ())
            if scheme == "rope":
                write_positions(folder, scheme, seed)
                write_evaluation(folder, scheme, seed, protocol="nonoverlap", targets_hash="n", lengths=(64, 128))
    write_run(root, "hostile", 0, scheme_name=HOSTILE, window=False)
    return page(compose([root], root))


def test_the_page_needs_nothing_else(content):
    assert Attributes(content).found == ["data:,", "#results"]
    assert set(re.findall(r"https?://[^\s\"'<>)]+", content)) == {"http://www.w3.org/2000/svg"}
    assert "@import" not in content
    assert "url(#" in content
    assert "default-src 'none'" in content


def test_embedded_data_is_the_report_and_names_stay_text(content):
    block = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', content, re.DOTALL)[1]
    labels = [line["label"] for line in json.loads(block)["studies"][0]["ppl"]["chart"]["series"]]
    assert HOSTILE in labels
    assert content.count("<script") == 2
    assert "<img" not in content
    assert str(escape(HOSTILE)) in content


@pytest.mark.parametrize("text", ["</script>", "<!--", "]]>", "\u2028", "&lt;", '"\\'])
def test_script_json_round_trips_and_cannot_end_its_element(text):
    written = script_json({"key": text})
    assert json.loads(written) == {"key": text}
    assert not re.search("[<>&\u2028\u2029]", written)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_in_a_browser(content, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(content.replace("</body>", f"<script>{CLICKS}</script></body>"), encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    outcome = re.search(r'data-outcome="([^"]*)"', done.stdout)
    assert outcome, done.stderr[-2000:]
    got = json.loads(html.unescape(outcome[1]))
    everything = sorted(["alibi", "rope", "learned", HOSTILE])
    assert got["drawn"] == got["again"] == everything
    assert got["charts"] == 6  # lengths, positions and training, two panels each
    assert (got["markers"], got["controls"], got["bands"], got["detail"]) == (6, 3, 3, "block")
    assert {"64", "½×", "128", "1×", "2,048", "16×", "trained at 128"} <= set(got["ticks"])
    assert got["tip"].startswith("64 tokens, ½×")
    assert "learned" in got["tip"]
    assert got["next"].startswith("128 tokens, 1×")
    assert got["hidden"] == [label for label in everything if label != "rope"]
    assert got["pressed"] == "false"
    assert got["rescaled"]
    assert "rope" not in got["elsewhere"]
    assert "alibi" in got["elsewhere"]
    assert got["tables"] == ["table-bpb_by_length", "table-bpb_by_length"]
    assert got["gap_log"]
    assert got["controls_off"] == 0
    assert got["study"] == ["rope"]
    assert all(before != after for before, after in zip(*got["look"], strict=True))
    assert got["title"] != "broken"
    assert got["images"] == 0
    assert got["fits"]


# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB
VISION = {
    "normal": np.eye(3),
    "protan": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0993], [-0.0039, -0.0481, 1.0520]]),
    "deutan": np.array([[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]),
    "tritan": np.array([[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]]),
}


def oklab(colour, seen):
    """Ottosson's OKLab of a hex colour under one kind of vision."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_lms = [[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]
    to_lab = [[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]]
    return to_lab @ np.cbrt(to_lms @ np.clip(seen @ linear, 0, 1))


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("colours", [palette.LIGHT, palette.DARK], ids=["light", "dark"])
def test_colours_stay_apart(vision, colours):
    seen = [oklab(colour, VISION[vision]) for colour in colours]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 0.11


def test_sixty_four_lines_look_different():
    assert len({(palette.colour(i), palette.marker(i)) for i in range(64)}) == 64
