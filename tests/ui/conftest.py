"""One Airflow web server, one simulator and one browser for all tests here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import sync_playwright

from airflow_provider_flokit.simulator import Simulator
from tests.checkout import REPOSITORY
from tests.system.local_airflow import LocalAirflow
from tests.system.settings import AIRFLOW_3, AIRFLOW_VERSION
from tests.ui.browser import ARGUMENTS, MISSING, find_chromium
from tests.ui.form_airflow_2 import PASSWORD, USER, Airflow2Form
from tests.ui.form_airflow_3 import Airflow3Form

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, StorageState

    from tests.ui.form import ConnectionForm


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that renews the pictures."""
    parser.addoption("--screenshots", type=Path, help="folder to write the pictures of the docs to")


def pytest_sessionstart() -> None:
    """Say at once what is missing, not after a minute of starting Airflow."""
    if not find_chromium():
        pytest.exit(MISSING, returncode=pytest.ExitCode.USAGE_ERROR)


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
    airflow = LocalAirflow(
        scratch / "airflow", scratch / "dags", {"AIRFLOW__CORE__TEST_CONNECTION": "Enabled"}, webserver=True
    )
    airflow.migrate()
    if not AIRFLOW_3:
        name = ("--firstname", "Ada", "--lastname", "Lovelace", "--email", "ada@example.com")
        airflow.cli("users", "create", "--username", USER, "--password", PASSWORD, "--role", "Admin", *name)
    try:
        airflow.start("api-server" if AIRFLOW_3 else "webserver")
        airflow.wait_until_ready()
        yield airflow
    finally:
        airflow.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=[*ARGUMENTS])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def logged_in(airflow: LocalAirflow, browser: Browser) -> StorageState:
    """The cookies of somebody who has logged in, once: Airflow 2 allows five logins in 40 seconds."""
    context, form = _new_form(airflow, browser)
    form.log_in()
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def form(airflow: LocalAirflow, browser: Browser, logged_in: StorageState) -> Iterator[ConnectionForm]:
    """The connection form, for somebody who has logged in."""
    context, form = _new_form(airflow, browser, logged_in)
    yield form
    context.close()


def _new_form(
    airflow: LocalAirflow, browser: Browser, state: StorageState | None = None
) -> tuple[BrowserContext, ConnectionForm]:
    context = browser.new_context(viewport={"width": 1180, "height": 1000}, locale="en-US", storage_state=state)
    context.set_default_timeout(60_000)
    return context, (Airflow3Form if AIRFLOW_3 else Airflow2Form)(context.new_page(), airflow.url)


@pytest.fixture
def picture(form: ConnectionForm, request: pytest.FixtureRequest) -> Callable[[str, int], None]:
    """Take a picture of a name and height (pixels) for the docs, if asked to by ``--screenshots``."""
    folder: Path | None = request.config.getoption("--screenshots")

    def take(name: str, height: int) -> None:
        if folder:
            form.page.set_viewport_size({"width": 1180, "height": height})
            form.page.evaluate("window.scrollTo(0, 0)")
            folder.mkdir(parents=True, exist_ok=True)
            version = ".".join(map(str, AIRFLOW_VERSION))
            # What moves (a caret, an opening dialog) would make every picture another.
            form.page.screenshot(path=folder / f"{name}-{version}.png", animations="disabled", caret="hide")

    return take


@pytest.fixture
def stored(airflow: LocalAirflow) -> Callable[[str], dict[str, Any]]:
    """Read a connection as a hook does, in a process of its own: the extra as stored, and the hook's settings."""

    def read(conn_id: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.ui.read_connection", conn_id],
            cwd=REPOSITORY,
            # As Airflow's own servers read connections: straight from the database, not through a task's supervisor.
            env={**airflow.env, "_AIRFLOW_PROCESS_CONTEXT": "server"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    return read
