"""The website as a reader meets it: built once, every page opened in a browser that reaches no other computer."""

import functools
import http.server
import importlib.util
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import kdref
from kdref.lab.course import notebooks
from kdref.lab.course.copying import copyable
from tests.course.scripts import imported
from tests.course.test_browser import CHROMIUM

SITE = Path("docs/site").resolve()
READ = """async () => {
    if (window.MathJax) await window.MathJax.startup.promise;
    const seen = selector => [...document.querySelectorAll(selector)];
    const skipped = "pre, code, script, style, mjx-container, .highlight";
    const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
    const raw = /\\\\\\(|\\\\\\[|\\$\\$|\\\\(frac|sum|log|tau|mathrm)\\b|:math:|\\$[^\\s$][^$\\n]*\\$/;
    const sources = [];
    while (walker.nextNode()) {
        const node = walker.currentNode;
        if (raw.test(node.textContent) && !node.parentElement.closest(skipped)) sources.push(node.textContent);
    }
    return {
        title: document.title,
        headings: seen("article h1").length,
        links: seen("a[href]").map(a => a.href),
        ids: seen("[id]").map(e => e.id),
        unnamed: seen("main img").filter(i => i.alt.trim().split(/\\s+/).length < 3).map(i => i.src),
        sources: sources,
        unset: seen(".math").filter(e => !e.querySelector("mjx-container")).map(e => e.textContent),
        errors: seen("mjx-merror, [data-mjx-error]").map(e => e.closest("mjx-container").textContent),
        wide: document.documentElement.scrollWidth > window.innerWidth,
    };
}"""

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on the PATH"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("sphinx", "myst_nb", "sphinx_book_theme")),
        reason='what builds the site is not installed: python -m pip install ".[site]"',
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make site`` does."""
    target = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, str(SITE / "build.py"), str(target)]
    built = subprocess.run(command, env=notebooks.environment(), capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return target


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The site, served by this computer to itself."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *arguments: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", alone])


class Visit:
    """A page as the browser has it, with what it said and asked for while it loaded."""

    def __init__(self, page: Page, url: str) -> None:
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("pageerror", lambda error: self._said("error", str(error)))
        page.on("request", lambda request: self._asked(request.url))
        page.goto(url)
        self.found: dict[str, Any] = page.evaluate(READ)

    def faults(self) -> list[str]:
        """What is wrong with the page by itself."""
        told = {
            "console": self.complaints,
            "asks another computer": self.elsewhere,
            "no title": [] if self.found["title"].strip() and self.found["headings"] == 1 else [self.found["title"]],
            "image without alternative text": self.found["unnamed"],
            "formula as source": self.found["sources"] + self.found["unset"],
            "formula that does not compile": self.found["errors"],
            "wider than the window": ["scrolls sideways"] if self.found["wide"] else [],
        }
        return [f"{fault}: {what}" for fault, all_of_it in told.items() for what in all_of_it]

    def _said(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def _asked(self, url: str) -> None:
        if urlsplit(url).hostname not in ("127.0.0.1", None):
            self.elsewhere.append(url)


def pages(folder: Path) -> list[str]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
    return [name for name in names if not name.startswith("_") and name not in ("search.html", "genindex.html")]


@pytest.fixture(scope="module")
def visits(folder: Path, address: str, browser: Browser) -> dict[str, Visit]:
    """Every page, opened once, on a window as wide as a phone's."""
    found = {}
    for name in pages(folder):
        page = browser.new_page(viewport={"width": 390, "height": 844})
        found[name] = Visit(page, f"{address}/{name}")
        page.close()
    return found


def broken_links(name: str, found: dict[str, Any], address: str, folder: Path, ids: dict[str, set[str]]) -> list[str]:
    """Links of a page within the site that lead to no file, or to no place in one."""
    faults = []
    for link in found["links"]:
        url = urlsplit(link)
        if not link.startswith(address):
            continue
        target = unquote(url.path).lstrip("/") or "index.html"
        place = unquote(url.fragment)
        if not (folder / target).is_file() or (place and target in ids and place not in ids[target]):
            faults.append(f"{name}: {link.removeprefix(address)}")
    return faults


def test_every_page_is_whole_on_a_phone_without_a_network(visits: dict[str, Visit]) -> None:
    assert len(visits) > 50
    assert [f"{name}, {fault}" for name, visit in visits.items() for fault in visit.faults()] == []


def test_every_link_within_the_site_leads_somewhere(visits: dict[str, Visit], address: str, folder: Path) -> None:
    ids = {name: set(visit.found["ids"]) for name, visit in visits.items()}
    assert sum(len(visit.found["links"]) for visit in visits.values()) > 2000
    everything = [broken_links(name, visit.found, address, folder, ids) for name, visit in visits.items()]
    assert [fault for faults in everything for fault in faults] == []


def test_any_lesson_is_one_click_away_from_the_first_page_and_any_method_two(
    visits: dict[str, Visit], address: str
) -> None:
    near = {urlsplit(link).path.lstrip("/") for link in visits["index.html"].found["links"] if link.startswith(address)}
    lessons = {name for name in visits if name.startswith("notebooks/") and name[10:12].isdigit()}
    assert lessons == {f"notebooks/{path.stem}.html" for path in Path("notebooks").glob("[0-9]*.ipynb")}
    assert lessons <= near
    shown = {place for name in near & set(visits) for place in visits[name].found["ids"]}
    names = [f"kdref.{file}.{name}" for file, names in copyable().items() for name in names]
    assert [name for name in names if name not in shown] == []


def test_the_reference_has_every_public_name_with_its_signature_and_the_way_to_copy_it(
    folder: Path, visits: dict[str, Visit]
) -> None:
    for topic in kdref._TOPICS:
        text = (folder / "reference" / f"{topic}.html").read_text(encoding="utf-8")
        public = __import__(f"kdref.{topic}", fromlist=["x"]).__all__
        functions = [name for name in public if callable(getattr(kdref, name))]
        assert [name for name in public if f"{name}" not in text] == []
        words = " ".join(re.sub("<[^>]+>", "", text).split())
        assert [name for name in functions if f"python -m kdref copy {name}" not in words] == []
        assert text.count("Taught in") > len(functions)


@pytest.mark.parametrize(
    ("words", "page"),
    [("temperature", "notebooks/01_soft_targets.html"), ("rkd_distance_loss", "reference/relation.html")],
)
def test_search_finds(browser: Browser, address: str, words: str, page: str) -> None:
    opened = browser.new_page()
    opened.goto(f"{address}/search.html?q={words}")
    opened.wait_for_selector("#search-results li a")
    opened.wait_for_function("document.querySelector('#search-results .search-summary').textContent.includes('found')")
    links = opened.eval_on_selector_all("#search-results li a", "all => all.map(a => a.href)")
    opened.close()
    assert any(page in link for link in links)


def test_solutions_are_folded_and_the_lesson_can_be_downloaded_as_learners_get_it(
    browser: Browser, address: str, folder: Path
) -> None:
    page = browser.new_page()
    page.goto(f"{address}/notebooks/01_soft_targets.html")
    folded = page.locator("details.hide, .cell_input details, details:has(summary:has-text('A solution'))")
    assert folded.count() >= 3
    assert not any(folded.nth(index).locator("pre").first.is_visible() for index in range(folded.count()))
    folded.first.locator("summary").click()
    assert folded.first.locator("pre").first.is_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download this notebook").click()
    assert Path(download.value.path()).read_bytes() == Path("notebooks/01_soft_targets.ipynb").read_bytes()
    page.close()


def test_widgets_are_shown_at_rest_and_quizzes_as_text_with_the_way_to_run_them(
    folder: Path, visits: dict[str, Visit]
) -> None:
    lessons = [name for name in visits if name.startswith("notebooks/") and name[10:12].isdigit()]
    texts = {name[10:12]: (folder / name).read_text(encoding="utf-8") for name in lessons}
    for number, text in texts.items():
        assert "Something to move" in text or number == "11", "lesson 11's is with the writing models, in 19"
        assert "takes your answers" in text, number
        words = " ".join(re.sub("<[^>]+>", "", text).split())
        assert f"(python -m kdref start {number})" in words, number
    without = {number for number, text in texts.items() if "at rest: the picture that its controls change" not in text}
    assert without == {"05", "11", "18"}, (
        "05's triangle is drawn by the browser, 18's chooser is all words, 11 has none"
    )


FAULTY = "<!DOCTYPE html><title>a page</title><main><article>{body}</article></main>"


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<h1>a</h1>", None),
        ("<p>no heading</p>", "no title"),
        ("<h1>a</h1><img src='data:,' alt='_images/1.png'>", "image without alternative text"),
        ("<h1>a</h1><p>loss is \\(\\tau^2\\)</p>", "formula as source"),
        ("<h1>a</h1><p>a $p_c$ b</p>", "formula as source"),
        ("<h1>a</h1><span class='math'>x</span>", "formula as source"),
        ("<h1>a</h1><mjx-container><mjx-merror>x</mjx-merror></mjx-container>", "formula that does not compile"),
        ("<h1>a</h1><script>throw Error('x')</script>", "console"),
        ("<h1>a</h1><img alt='three words here' src='http://example.org/a.png'>", "asks another computer"),
        ("<h1>a</h1><div style='width:900px'>x</div>", "wider than the window"),
    ],
)
def test_a_fault_is_noticed(browser: Browser, tmp_path: Path, body: str, fault: str | None) -> None:
    path = tmp_path / "page.html"
    path.write_text(FAULTY.format(body=body), encoding="utf-8")
    page = browser.new_page(viewport={"width": 390, "height": 844})
    faults = {text.partition(":")[0] for text in Visit(page, path.as_uri()).faults()}
    page.close()
    assert (fault in faults) if fault else faults == set()


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.html").touch()
    links = ["h/a.html", "h/a.html#x", "h/a.html#y", "h/b.html", "elsewhere/c.html"]
    faults = broken_links(
        "a.html", {"links": ["http://" + link for link in links]}, "http://h", tmp_path, {"a.html": {"x"}}
    )
    assert faults == ["a.html: /a.html#y", "a.html: /b.html"]


def test_without_an_address_nothing_opens_elsewhere_and_with_one_each_lesson_does() -> None:
    address = imported("address", SITE)
    assert address.REPOSITORY == ""
    assert address.launch_links("", "01_soft_targets") == []
    binder, colab = address.launch_links("me/kdref", "01_soft_targets")
    assert "(https://mybinder.org/v2/gh/me/kdref/main?urlpath=lab/tree/notebooks/01_soft_targets.ipynb)" in binder
    assert "(https://colab.research.google.com/github/me/kdref/blob/main/notebooks/01_soft_targets.ipynb)" in colab
    assert colab.endswith('`%pip install --quiet "kdref[lab,language,edge] @ git+https://github.com/me/kdref"`')


def test_binder_installs_a_torch_without_cuda_and_keeps_it() -> None:
    conda = Path(".binder/environment.yml").read_text(encoding="utf-8")
    after = Path(".binder/postBuild").read_text(encoding="utf-8")
    assert "- pytorch-cpu >=2.9" in conda
    assert "pip install --no-cache-dir -r requirements.txt -e ." in after
    assert not re.search("pip install.* torch", after)
