"""The FloKit page in a real browser, in front of a whole Airflow with gates that wait."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from airflow_provider_flokit.simulator import Simulator
from airflow_provider_flokit.ui import HAS_PAGE
from tests.checkout import REPOSITORY
from tests.system.demo_page import CONN_ID, PAGE_DAGS, STRIPE, USERS, fill, start_gates
from tests.system.local_airflow import LocalAirflow
from tests.system.settings import AIRFLOW_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, Page

    Visit = Callable[..., Page]
    Picture = Callable[[Page, str], None]

pytestmark = pytest.mark.skipif(not HAS_PAGE, reason="the page needs Airflow 3.1.1")

# Airflow's own pages take their time on a busy machine.
expect.set_options(timeout=60_000)

DOCS = REPOSITORY / "docs" / "images"
IN_THE_DOCS = {"light", "dark", "down", "link"}
BROKEN = "int_01hx4j7appsflyer"


@pytest.fixture(scope="module")
def flokit() -> Iterator[Simulator]:
    """A workspace with an integration in each state."""
    with Simulator() as simulator:
        fill(simulator)
        yield simulator


@pytest.fixture(scope="module")
def stage(flokit: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """A whole Airflow in which gates wait, an asset is watched, and one gate has failed."""
    with LocalAirflow(tmp_path_factory.mktemp("stage") / "airflow", PAGE_DAGS, users=USERS) as airflow:
        airflow.cli("connections", "add", CONN_ID, "--conn-uri", flokit.connection_uri())
        airflow.wait_until_ready()
        start_gates(flokit, airflow)
        yield airflow


@pytest.fixture
def visit(browser: Browser, stage: LocalAirflow) -> Iterator[Visit]:
    """Open a page of the stage's Airflow, as somebody who logs in with a password when asked to."""
    contexts: list[BrowserContext] = []
    noise: list[str] = []

    def visit(path: str, user: str = "admin", **options: Any) -> Page:
        settings = {"viewport": {"width": 1280, "height": 720}, "locale": "en-US", **options}
        context = browser.new_context(**settings)
        contexts.append(context)
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("dialog", lambda dialog: noise.append(dialog.message))
        page.on("console", lambda message: noise.append(message.text) if "Security Policy" in message.text else None)
        if settings.get("java_script_enabled") is False:
            answer = context.request.post(f"{stage.url}/auth/token", data={"username": user, "password": user})
            token = {"name": "_token", "value": answer.json()["access_token"], "url": stage.url}
            context.add_cookies([token])
            page.goto(stage.url + path)
            return page
        page.goto(stage.url + path)
        page.locator("[name=username]").fill(user)
        page.locator("[name=password]").fill(user)
        page.locator("button[type=submit]").click()
        page.wait_for_url(stage.url + path)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert noise == []


@pytest.fixture
def connect(stage: LocalAirflow) -> Iterator[Callable[[str, str, int], None]]:
    """Add a connection for the time of a test."""
    added = []

    def connect(conn_id: str, simulator_url: str, key: str) -> None:
        body = {"connection_id": conn_id, "conn_type": "flokit", "host": simulator_url, "password": key}
        stage.api("POST", "/api/v2/connections", body)
        added.append(conn_id)

    yield connect
    for conn_id in added:
        stage.cli("connections", "delete", conn_id)


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Picture:
    """Take a picture for the docs, if asked to by ``--screenshots``."""
    folder: Path | None = request.config.getoption("--screenshots")

    def take(page: Page, name: str) -> None:
        version = ".".join(map(str, AIRFLOW_VERSION))
        if folder and (folder.resolve() != DOCS or (name in IN_THE_DOCS and version == "3.3")):
            folder.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=folder / f"page-{name}-{version}.png", animations="disabled", caret="hide")

    return take


def row(page: Page, integration: str) -> Any:
    """Return an integration's row."""
    return page.locator(f'[id="{CONN_ID}/{integration}"]')


def test_from_the_menu(visit: Visit, picture: Picture) -> None:
    """Browse has the page; it opens by itself, as Airflow's own choice of light or dark says, and leads back."""
    airflow = visit("/")
    airflow.get_by_role("button", name="User").click()
    airflow.get_by_role("menuitem", name="Appearance").hover()
    airflow.get_by_role("menuitem", name="Appearance").click()
    airflow.get_by_role("menuitemradio", name=re.compile("^Dark")).or_(
        airflow.get_by_role("menuitem", name=re.compile("Dark"))
    ).first.click()
    expect(airflow.locator("html")).to_have_class(re.compile("dark"))
    airflow.keyboard.press("Escape")
    airflow.get_by_role("button", name="Browse").click()
    expect(airflow.get_by_text("FloKit integrations")).to_be_visible()
    picture(airflow, "menu")
    with airflow.expect_popup() as opened:
        airflow.get_by_text("FloKit integrations").click()
    page = opened.value
    expect(row(page, STRIPE)).to_be_visible()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    page.get_by_role("link", name="Airflow").click()
    expect(page.get_by_role("button", name="Browse")).to_be_visible()


def test_to_who_waits(visit: Visit) -> None:
    """The links lead to the task, to all mapped ones, and to the asset, in Airflow's own pages."""
    page = visit("/flokit/")
    for name, place in (
        ("warehouse · sync_stripe", r"/dags/warehouse/runs/[^/]+/tasks/sync_stripe$"),
        ("attribution · wait_for_campaigns", r"/dags/attribution/runs/[^/]+/tasks/wait_for_campaigns/mapped$"),
        ("asset subscribers", r"/assets/\d+$"),
    ):
        page.get_by_role("link", name=name).click()
        expect(page).to_have_url(re.compile(place))
        expect(page.get_by_text(re.split("· |asset ", name)[-1]).first).to_be_visible()
        page.go_back()


def test_from_a_failed_task(visit: Visit, stage: LocalAirflow, picture: Picture) -> None:
    """A failed gate's page has a link to the page, at its integration, which is marked."""
    rows = stage.query("SELECT run_id FROM dag_run WHERE dag_id = 'marketing'")
    task = visit(f"/dags/marketing/runs/{rows[0]['run_id']}/tasks/wait_for_appsflyer")
    task.get_by_role("link", name="Details").click()
    link = task.get_by_role("link", name="FloKit integration")
    expect(link).to_be_visible()
    picture(task, "link")
    if link.get_attribute("target") == "_blank":
        with task.expect_popup() as opened:
            link.click()
        page = opened.value
    else:
        link.click()
        page = task
    expect(page).to_have_url(re.compile(r"/flokit/\?q=appsflyer#flokit_default"))
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(row(page, BROKEN)).to_contain_text("error")


def test_from_a_deferred_task(visit: Visit, stage: LocalAirflow) -> None:
    """A task that waits leads to its integration, which is marked, also after the page has refreshed itself."""
    rows = stage.query("SELECT run_id FROM dag_run WHERE dag_id = 'warehouse'")
    task = visit(f"/dags/warehouse/runs/{rows[0]['run_id']}/tasks/sync_stripe/details")
    href = task.get_by_role("link", name="FloKit integration").get_attribute("href")
    task.goto(f"{stage.url}/{href}")
    page = task
    expect(row(page, STRIPE)).to_have_class(re.compile("target"))
    page.get_by_role("searchbox").press_sequentially("int_")
    expect(page).to_have_url(re.compile("q=int_"))
    expect(row(page, STRIPE)).to_have_class(re.compile("target"))


def test_filter_and_sorting(visit: Visit) -> None:
    """Typing filters at once and stays in the address; a column sorts, and keeps what was typed."""
    page = visit("/flokit/")
    page.get_by_role("searchbox").press_sequentially("int_")
    expect(page).to_have_url(re.compile("q=int_"))
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.get_by_role("link", name="Last synced").click()
    expect(page.locator("tbody tr").nth(1)).to_contain_text("never")
    page.get_by_role("link", name="Last synced").click()
    expect(page.locator("tbody tr").nth(1)).to_contain_text("int_01hx4j7revenuecat")
    expect(page.get_by_role("searchbox")).to_have_value("int_")
    page.get_by_role("searchbox").fill("adjust attribution")
    expect(page.locator("tbody tr")).to_have_count(2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_at_a_glance(visit: Visit, picture: Picture, scheme: str) -> None:
    """Who is led to the login comes back to the page: all states, who waits and what is watched."""
    page = visit("/flokit/", color_scheme=scheme)
    expect(row(page, BROKEN)).to_contain_text("AppsFlyer refused the API token")
    expect(row(page, "int_01hx4j7adjust")).to_contain_text("never")
    expect(row(page, "int_01hx4j7adjust")).to_contain_text("attribution · wait_for_campaigns \N{MULTIPLICATION SIGN} 3")
    expect(row(page, STRIPE)).to_contain_text("warehouse · sync_stripe")
    expect(row(page, STRIPE)).to_contain_text("subscriptions · wait_for_stripe")
    expect(row(page, "int_01hx4j7revenuecat")).to_contain_text("asset subscribers")
    assert "no triggerer" not in page.locator("main").inner_text()
    assert page.locator("tbody tr").nth(1).get_attribute("id") == f"{CONN_ID}/{BROKEN}"
    light = page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert light is (scheme == "light")
    picture(page, scheme)


def test_it_refreshes_itself(visit: Visit, flokit: Simulator) -> None:
    """What changes at FloKit shows without a reload; what one is typing stays, and the age is told."""
    page = visit("/flokit/")
    page.get_by_role("searchbox").press_sequentially("google")
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("#age")).to_have_text(re.compile(r"FloKit asked [1-9]\d* s ago"))
    flokit.set_state("int_01hx4j7google", status="error", error_message="The service account was deleted")
    try:
        expect(row(page, "int_01hx4j7google")).to_contain_text("The service account was deleted", timeout=100_000)
        expect(page.get_by_role("searchbox")).to_have_value("google")
        expect(page.get_by_role("searchbox")).to_be_focused()
    finally:
        flokit.set_state("int_01hx4j7google", status="connected", error_message=None)


def test_without_scripts(visit: Visit) -> None:
    """The page works without its script: filter with Enter, sorting, links."""
    page = visit("/flokit/", java_script_enabled=False)
    page.get_by_role("searchbox").fill("adjust")
    page.get_by_role("searchbox").press("Enter")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_role("link", name="Integration").click()
    expect(page.locator("[aria-sort]")).to_contain_text("Integration")
    expect(page.get_by_role("searchbox")).to_have_value("adjust")


def test_who_is_logged_out_keeps_what_is_shown(visit: Visit) -> None:
    """A page whose login has ended says so, and keeps what it shows."""
    page = visit("/flokit/")
    expect(row(page, STRIPE)).to_be_visible()
    page.context.clear_cookies()
    page.get_by_role("searchbox").press_sequentially("s")
    expect(page.locator("#age")).to_contain_text("You are logged out")
    expect(row(page, STRIPE)).to_be_visible()


def test_a_viewer_may_not(visit: Visit, picture: Picture) -> None:
    """Who may not read connections is told so."""
    page = visit("/flokit/", user="viewer")
    expect(page.locator("main")).to_have_text(re.compile("You have no right to read Airflow's connections"))
    assert STRIPE not in page.content()
    picture(page, "refused")


def test_flokit_is_down(visit: Visit, connect: Any, picture: Picture) -> None:
    """A workspace that cannot be asked says why in its place, while the other shows."""
    connect("flokit_emea", "http://127.0.0.1:9", "fk_rw_of_another_workspace")
    page = visit("/flokit/")
    expect(page.locator(".trouble")).to_contain_text("no answer from http://127.0.0.1:9")
    expect(row(page, STRIPE)).to_be_visible()
    assert "fk_rw_of_another_workspace" not in page.content()
    picture(page, "down")


def test_five_hundred(visit: Visit, connect: Any, picture: Picture) -> None:
    """Five hundred integrations, some with odd names, are shown, and nothing of them runs or sticks out."""
    kinds = ("stripe", "adjust", "google_play", "warehouse", "app_store_connect")
    with Simulator() as simulator:
        for number in range(498):
            simulator.add_integration(f"int_01hx4j7{number:03}", kinds[number % 5])
        odd = "<img src=x onerror=alert(1)>" + "W" * 200
        simulator.add_integration("int_odd", odd, status="error", error_message=f"{odd} {'very long ' * 60}")
        simulator.add_integration("int_" + "w" * 120, "stripe", status="paused_by_finance")
        connect("flokit_big", simulator.url, simulator.api_key)
        page = visit("/flokit/")
        expect(page.locator('[id^="flokit_big/"]')).to_have_count(500)
        page.locator('[id="flokit_big"]').scroll_into_view_if_needed()
        page.evaluate("document.getElementById('flokit_big').scrollIntoView()")
        picture(page, "500")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.get_by_role("searchbox").fill("app_store 499")
        expect(page.locator('[id^="flokit_big/"]')).to_have_count(0)
        page.get_by_role("searchbox").fill("app_store 494")
        expect(page.locator('[id^="flokit_big/"]')).to_have_count(1)


def test_narrow(visit: Visit, picture: Picture) -> None:
    """On a small screen nothing sticks out."""
    page = visit("/flokit/", viewport={"width": 480, "height": 900})
    expect(row(page, STRIPE)).to_be_visible()
    picture(page, "narrow")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_no_connection(airflow: LocalAirflow, browser: Browser, picture: Picture) -> None:
    """An Airflow without a connection to FloKit says how to get one."""
    for connection in airflow.api("GET", "/api/v2/connections?limit=100")["connections"]:
        if connection["conn_type"] == "flokit":
            airflow.cli("connections", "delete", connection["connection_id"])
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    page = context.new_page()
    page.goto(airflow.url)  # where everybody is an administrator, a cookie comes from here
    page.get_by_role("button", name="Browse").wait_for()
    page.goto(f"{airflow.url}/flokit/")
    expect(page.locator("main")).to_contain_text("There is no connection to FloKit yet")
    picture(page, "empty")
    page.get_by_role("link", name="Add one").click()
    expect(page).to_have_url(f"{airflow.url}/connections")
    context.close()
