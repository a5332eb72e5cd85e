"""Lesson 01 as a learner meets it: JupyterLab in a browser, all cells run from the menu, the slider moved."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from kdref.lab import course
from kdref.lab.course import notebooks, server, workspace

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
START = 120  # seconds that the server and the page may take, on a machine that is busy with other things
RUN = 600  # seconds that the lesson may take: ten times what it needs on a quiet one

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium or google-chrome on the PATH (on Debian: apt-get install chromium)"
)


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """JupyterLab as ``make course`` starts it, on a free port, with a home of its own; ended with its kernels."""
    monkeypatch.setattr(workspace, "home_folder", lambda: tmp_path)
    course.make_copies(course.work_folder())
    notebook = course.work_folder() / "01_soft_targets.ipynb"
    for name in [name for name in os.environ if name.startswith("JUPYTER_")]:
        monkeypatch.delenv(name)
    for name in ("CONFIG", "DATA", "RUNTIME"):
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(tmp_path / name.lower()))
    command = [*server._jupyter(notebook, browser=False), *server._private_kernels(), "--ServerApp.port=0"]
    runtime = Path(os.environ["JUPYTER_RUNTIME_DIR"])  # a short one: pytest's folders have long names
    environment = {**notebooks.environment(), "IPYTHONDIR": str(tmp_path / "ipython")}
    with (tmp_path / "server.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        running = _when_running(runtime, tmp_path / "server.log", process)
        yield f"{running['url']}lab/tree/{notebook.relative_to(tmp_path).as_posix()}?token={running['token']}"
    finally:
        process.terminate()  # it stops its kernels before it ends
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()  # its kernels notice that it is gone
            process.wait()
        if runtime.parent == Path(server.SHORT):
            shutil.rmtree(runtime)


def _when_running(runtime: Path, log: Path, server: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """What the server writes about itself once it can be reached."""
    end = time.monotonic() + START
    while time.monotonic() < end and server.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            return json.loads(path.read_text(encoding="utf-8"))
        time.sleep(0.5)
    raise RuntimeError(log.read_text(encoding="utf-8"))


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a browser that can find no other computer."""
    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", alone])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(1000 * START)
        yield page
        browser.close()


def scroll_to(page: Page, what: str) -> None:
    """Turn the mouse wheel until it comes into view: JupyterLab draws what is near, and no more."""
    notebook = page.locator(".jp-WindowedPanel-outer").first
    for _ in range(100):
        if page.locator(what).first.is_visible():
            page.locator(what).first.scroll_into_view_if_needed()
            return
        notebook.hover()
        page.mouse.wheel(0, 600)
        page.wait_for_timeout(100)
    raise AssertionError(f"no {what} in the notebook")


def test_lesson_01_runs_in_jupyterlab_and_its_slider_redraws_the_picture(
    address: str, page: Page, tmp_path: Path
) -> None:
    hosts = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.goto(address)
    expect(page.get_by_role("heading", name="01 · Soft targets")).to_be_visible(timeout=1000 * START)
    expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=1000 * START)  # the kernel's state
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Run All( Cells)?$")).click()
    last = page.locator(".jp-CodeCell .jp-InputPrompt").last
    expect(last).to_have_text("[*]:", timeout=1000 * START)  # it waits for its turn
    expect(last).not_to_have_text("[*]:", timeout=1000 * RUN)

    (kernel,) = Path(os.environ["JUPYTER_RUNTIME_DIR"]).glob("kernel-*.json")
    assert json.loads(kernel.read_text(encoding="utf-8"))["transport"] == "ipc"

    scroll_to(page, ".widget-slider")  # it is there only if every cell before it ran: the stored notebook has none
    picture, line, handle = (page.locator(name).first for name in (".widget-image", ".widget-html", "[role=slider]"))
    expect(line).to_contain_text("τ = 1.00")
    before = picture.screenshot()
    handle.focus()
    for _ in range(20):
        handle.press("ArrowRight")
    expect(line).to_contain_text("τ = 2.51")  # 20 steps of 0.02 in the exponent of ten
    end = time.monotonic() + START
    while picture.screenshot() == before and time.monotonic() < end:
        page.wait_for_timeout(200)
    page.screenshot(path=tmp_path / "lesson_01.png")  # to look at
    assert picture.screenshot() != before

    scroll_to(page, ".widget-radio-box")  # the quiz, in the last cell
    assert hosts <= {"127.0.0.1", None}, "JupyterLab asks other computers for something"
