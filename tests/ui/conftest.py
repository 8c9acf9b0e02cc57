"""A browser; a web server for the connection form, and on Airflow 3 a whole Airflow with gates for the pages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.sync_api import expect, sync_playwright

from airflow_provider_flokit.simulator import Simulator
from airflow_provider_flokit.ui import HAS_PAGE
from tests.checkout import REPOSITORY
from tests.system.demo_page import CONN_ID, PAGE_DAGS, USERS, fill, start_gates
from tests.system.local_airflow import LocalAirflow
from tests.system.settings import AIRFLOW_3, AIRFLOW_VERSION
from tests.ui.form import USER, Form

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page, StorageState

collect_ignore_glob = [] if HAS_PAGE else ["test_page.py", "test_gates.py"]

Visit = "Callable[..., Page]"
Picture = "Callable[..., None]"

# No sandbox: containers and root have none to offer. The others keep it from calling home.
CHROMIUM_ARGUMENTS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
]
READ_CONNECTION: Final = """
import json, sys
from airflow_provider_flokit.api.settings import FlokitSettings
from airflow_provider_flokit.hooks.flokit import FlokitHook
conn = FlokitHook.get_connection(sys.argv[1])
settings = FlokitSettings.from_connection(sys.argv[1], conn)
names = ("base_url", "api_key", "timeout", "retry_limit", "verify", "proxies")
print(json.dumps([{name: getattr(settings, name) for name in names}, json.loads(conn.extra or "{}")]))
"""

# Airflow's own pages take their time on a busy machine.
expect.set_options(timeout=60_000)


def find_chromium() -> str | None:
    """Return the path of a Chromium or Chrome of this machine, None if there is none."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that renews the pictures."""
    parser.addoption("--screenshots", type=Path, help="folder to write the pictures of the docs to")


def pytest_sessionstart() -> None:
    """Say at once what is missing, not after a minute of starting Airflow."""
    if not find_chromium():
        pytest.exit(
            "No Chromium here. Install it (Debian, Ubuntu: apt-get install chromium), or name it: CHROMIUM=PATH"
        )


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    """A workspace of three integrations, one of them in error."""
    with Simulator() as simulator:
        for kind in ("revenuecat", "appsflyer", "stripe"):
            simulator.add_integration(f"int_01hx4j7{kind}", type=kind)
        simulator.set_state("int_01hx4j7appsflyer", status="error", error_message="Bad credentials")
        yield simulator


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """An Airflow of which only the web server runs, with the Test button enabled."""
    scratch = tmp_path_factory.mktemp("ui")
    (scratch / "dags").mkdir()
    settings = {"AIRFLOW__CORE__TEST_CONNECTION": "Enabled"}
    airflow = LocalAirflow(scratch / "airflow", scratch / "dags", settings, webserver=True)
    airflow.migrate()
    if not AIRFLOW_3:
        name = ("--firstname", "Ada", "--lastname", "Lovelace", "--email", "ada@example.com")
        airflow.cli("users", "create", "--username", USER, "--password", USER, "--role", "Admin", *name)
    try:
        airflow.start("api-server" if AIRFLOW_3 else "webserver")
        airflow.wait_until_ready()
        yield airflow
    finally:
        airflow.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium of this machine."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def logged_in(airflow: LocalAirflow, browser: Browser) -> StorageState:
    """The cookies of somebody who has logged in, once: Airflow 2 allows five logins in 40 seconds."""
    with browser.new_context() as context:
        Form(context.new_page(), airflow.url).log_in()
        return context.storage_state()


@pytest.fixture
def form(airflow: LocalAirflow, browser: Browser, logged_in: StorageState) -> Iterator[Form]:
    """The connection form, for somebody who has logged in."""
    viewport = {"width": 1180, "height": 1000}
    with browser.new_context(viewport=viewport, locale="en-US", storage_state=logged_in) as context:
        context.set_default_timeout(60_000)
        yield Form(context.new_page(), airflow.url)


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[[Page, str, int], None]:
    """Take a picture of a page, of a name and a height (pixels), for the docs, if asked to by ``--screenshots``."""
    folder: Path | None = request.config.getoption("--screenshots")

    def take(page: Page, name: str, height: int = 720) -> None:
        if folder:
            page.set_viewport_size({"width": page.viewport_size["width"], "height": height})
            page.evaluate("window.scrollTo(0, 0)")
            version = ".".join(map(str, AIRFLOW_VERSION))
            # What moves (a caret, an opening dialog) would make every picture another.
            page.screenshot(path=folder / f"{name}-{version}.png", animations="disabled", caret="hide")

    return take


@pytest.fixture(scope="session")
def flokit() -> Iterator[Simulator]:
    """A workspace with an integration in each state."""
    with Simulator() as simulator:
        fill(simulator)
        yield simulator


@pytest.fixture(scope="session")
def stage(flokit: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """A whole Airflow in which gates wait, an asset is watched, and one gate has failed."""
    scratch = tmp_path_factory.mktemp("stage")
    dags = shutil.copytree(PAGE_DAGS, scratch / "dags")
    with LocalAirflow(scratch / "airflow", dags, users=USERS) as airflow:
        airflow.cli("connections", "add", CONN_ID, "--conn-uri", flokit.connection_uri())
        airflow.wait_until_ready()
        start_gates(airflow)
        yield airflow


@pytest.fixture
def visit(browser: Browser, stage: LocalAirflow) -> Iterator[Visit]:
    """Open a page of the stage's Airflow, as somebody who logs in with a password when asked to."""
    contexts: list[BrowserContext] = []
    noise: list[str] = []

    def visit(path: str = "/flokit/", **options: Any) -> Page:
        context = browser.new_context(viewport={"width": 1280, "height": 720}, locale="en-US", **options)
        contexts.append(context)
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("dialog", lambda dialog: noise.append(dialog.message))
        page.on("console", lambda message: noise.append(message.text) if "Security Policy" in message.text else None)
        page.goto(stage.url + path)
        for name in ("username", "password"):
            page.locator(f"[name={name}]").fill(USER)
        page.locator("button[type=submit]").click()
        page.wait_for_url(stage.url + path)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert noise == []


@pytest.fixture
def visit_task(visit: Visit, stage: LocalAirflow) -> Visit:
    """Open the page of a task in the only run of a DAG; it shows the log first."""

    def visit_task(dag_id: str, task_id: str) -> Page:
        (run,) = stage.runs(dag_id)
        return visit(f"/dags/{dag_id}/runs/{run.run_id}/tasks/{task_id}")

    return visit_task


@pytest.fixture
def stored(airflow: LocalAirflow) -> Callable[[str], list[dict[str, Any]]]:
    """Read a connection as a hook does, in a process of its own: the hook's settings, and the extra as stored."""

    def read(conn_id: str) -> list[dict[str, Any]]:
        # As Airflow's own servers read connections: straight from the database, not through a task's supervisor.
        env = {**airflow.env, "_AIRFLOW_PROCESS_CONTEXT": "server"}
        command = [sys.executable, "-c", READ_CONNECTION, conn_id]
        done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, timeout=120, check=True)
        answer: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return answer

    return read
