"""The page of a study in a real browser: mobile, dark mode, print, offline."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import NamedTuple

import pytest

from study.options import DEFAULT_URL
from study.page.render import render
from tests.studies import searched
from tests.test_report import CONFUSION, MISTAKES, RESULTS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")
DARK, LIGHT = 0, 1
# The browser itself asks for updates: it reaches nobody.
ALONE = ("--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND")
WRAPPER = """<!doctype html><iframe src="page.html" style="width:%dpx;height:2000px"></iframe>
<script>
const frame = document.querySelector("iframe")
frame.onload = () => {
  const inner = frame.contentDocument, root = inner.documentElement
  const fine = (each) => each.getBoundingClientRect().height > 20
  document.title = JSON.stringify({
    width: root.clientWidth,
    needs: root.scrollWidth,
    figures: [...inner.querySelectorAll("figure > svg")].filter(fine).length,
    loaded: frame.contentWindow.performance.getEntriesByType("resource").map((each) => each.name),
    ground: frame.contentWindow.getComputedStyle(inner.body).backgroundColor,
  })
}
</script>"""


class Seen(NamedTuple):
    """What a browser makes of a page."""

    width: int
    needs: int
    figures: int
    loaded: list[str]
    ground: str
    console: list[str]


def chromium(profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    fixed = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic")
    line = [CHROMIUM, *fixed, *ALONE, f"--user-data-dir={profile}", *options]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)


def seen(page: str, profile: Path, width: int = 390, scheme: int = LIGHT) -> Seen:
    """The page in a frame so wide: a window of Chromium has 500 pixels at least."""
    Path("page.html").write_text(page)
    Path("wrapper.html").write_text(WRAPPER % width)
    done = chromium(
        profile,
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
        f"--blink-settings=preferredColorScheme={scheme}",
        "--dump-dom",
        Path("wrapper.html").absolute().as_uri(),
    )
    title = re.search("<title>(.*)</title>", done.stdout)
    assert title is not None, done
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Seen(**json.loads(unescape(title[1])), console=console)


@pytest.fixture(scope="module")
def search() -> str:
    study = searched(confusion=CONFUSION, mistakes=MISTAKES)
    return render(study, [study], DEFAULT_URL, {})


@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_fits_is_drawn_and_loads_nothing(width: int, search: str, tmp_path: Path) -> None:
    found = seen(search, tmp_path, width)
    assert found.console == []
    assert found.loaded == []
    assert found.needs <= found.width
    assert found.figures == search.count("<figure>") > 20


@pytest.mark.parametrize("study", ["fer2013-pooling-eeae3a", "fer2013-baseline-17c239"])
def test_a_comparison_fits_on_a_phone(study: str, tmp_path: Path) -> None:
    from study.storage.studies import load_studies

    shutil.copy(RESULTS, "studies.db")
    studies = load_studies(DEFAULT_URL)
    (one,) = (each for each in studies if each.study_name == study)
    found = seen(render(one, studies, DEFAULT_URL, {}), tmp_path)
    assert (found.console, found.loaded) == ([], [])
    assert found.needs <= found.width
    assert found.figures > 0


def test_a_page_is_dark_where_the_reader_has_it_dark(search: str, tmp_path: Path) -> None:
    def brightness(scheme: int) -> int:
        ground = seen(search, tmp_path, scheme=scheme).ground
        return sum(map(int, re.findall(r"\d+", ground)))

    assert brightness(DARK) < 150 < 600 < brightness(LIGHT)


def test_a_page_prints(search: str, tmp_path: Path) -> None:
    Path("page.html").write_text(search)
    out = Path("page.pdf").absolute()
    chromium(tmp_path, f"--print-to-pdf={out}", Path("page.html").absolute().as_uri())
    pages = len(re.findall(rb"/Type\s*/Page\b", out.read_bytes()))
    assert 3 <= pages <= 12


def test_what_is_wrong_with_a_page_would_be_seen(tmp_path: Path) -> None:
    wide = "<!doctype html><div style='width:900px'>wide</div>"
    image = "<img src='https://example.org/x.png'>"
    path = "<svg><path d='Mnan 0'/></svg>"
    found = seen(f"{wide}{image}{path}", tmp_path)
    assert found.needs > found.width
    assert found.loaded == ["https://example.org/x.png"]
    assert any("path" in line for line in found.console)
