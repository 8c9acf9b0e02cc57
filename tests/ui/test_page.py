"""The FloKit page in a real browser, in front of a whole Airflow with gates that wait."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from airflow_provider_flokit.simulator import Simulator
from airflow_provider_flokit.ui import HAS_PAGE
from tests.system.demo_page import CONN_ID, PAGE_DAGS, STRIPE, USERS, fill, start_gates
from tests.system.local_airflow import LocalAirflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Locator, Page

    Visit = Callable[..., Page]
    Picture = Callable[..., None]

pytestmark = pytest.mark.skipif(not HAS_PAGE, reason="the page needs Airflow 3.1.1")

PREFIX = "int_01hx4j7"
ADJUST, BROKEN, GOOGLE, REVENUECAT = (f"{PREFIX}{kind}" for kind in ("adjust", "appsflyer", "google", "revenuecat"))


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
        start_gates(airflow)
        yield airflow


@pytest.fixture
def visit(browser: Browser, stage: LocalAirflow) -> Iterator[Visit]:
    """Open a page of the stage's Airflow, as somebody who logs in with a password when asked to."""
    contexts: list[BrowserContext] = []
    noise: list[str] = []

    def visit(path: str = "/flokit/", user: str = "admin", **options: Any) -> Page:
        context = browser.new_context(viewport={"width": 1280, "height": 720}, locale="en-US", **options)
        contexts.append(context)
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("dialog", lambda dialog: noise.append(dialog.message))
        page.on("console", lambda message: noise.append(message.text) if "Security Policy" in message.text else None)
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
def connect(stage: LocalAirflow) -> Iterator[Callable[[str, str, str], None]]:
    """Add a connection for the time of a test."""
    added = []

    def connect(conn_id: str, simulator_url: str, key: str) -> None:
        body = {"connection_id": conn_id, "conn_type": "flokit", "host": simulator_url, "password": key}
        stage.api("POST", "/api/v2/connections", body)
        added.append(conn_id)

    yield connect
    for conn_id in added:
        stage.cli("connections", "delete", conn_id)


def rows(page: Page, text: str = "") -> Locator:
    """Return the integrations in sight, or those whose row has a text."""
    return page.locator(".integration:visible").filter(has_text=text)


def test_from_the_menu(visit: Visit) -> None:
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
    with airflow.expect_popup() as opened:
        airflow.get_by_text("FloKit integrations").click()
    page = opened.value
    expect(rows(page, STRIPE)).to_be_visible()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    page.get_by_role("link", name="Airflow").click()
    expect(page.get_by_role("button", name="Browse")).to_be_visible()


def test_to_who_waits(visit: Visit) -> None:
    """The links lead to the task, to all mapped ones, and to the asset, in Airflow's own pages."""
    page = visit()
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
    """A failed gate has a link to the page, which shows its integration."""
    (run,) = stage.query("SELECT run_id FROM dag_run WHERE dag_id = 'marketing'")
    task = visit(f"/dags/marketing/runs/{run['run_id']}/tasks/wait_for_appsflyer")
    task.get_by_role("link", name="Details").click()
    link = task.get_by_role("link", name="FloKit integration")
    expect(link).to_be_visible()
    picture(task, "page-link")
    link.evaluate("link => link.removeAttribute('target')")  # some versions open another window
    link.click()
    expect(task).to_have_url(re.compile(r"/flokit/\?q=appsflyer"))
    expect(task.get_by_role("searchbox")).to_have_value("appsflyer")
    expect(rows(task)).to_have_count(1)
    expect(rows(task, BROKEN)).to_contain_text("error")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_at_a_glance(visit: Visit, picture: Picture, scheme: str) -> None:
    """Who is led to the login comes back to the page: all states, who waits and what is watched."""
    page = visit(color_scheme=scheme)
    expect(rows(page).first).to_contain_text(f"{BROKEN} appsflyer error AppsFlyer refused the API token")
    expect(rows(page, ADJUST)).to_contain_text("never attribution · wait_for_campaigns \N{MULTIPLICATION SIGN} 3")
    expect(rows(page, STRIPE)).to_contain_text("warehouse · sync_stripe")
    expect(rows(page, STRIPE)).to_contain_text("subscriptions · wait_for_stripe")
    expect(rows(page, REVENUECAT)).to_contain_text("asset subscribers")
    light = page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert light is (scheme == "light")
    picture(page, f"page-{scheme}")


def test_filter_and_sorting(visit: Visit) -> None:
    """Typing filters at once, and stays in the address; each column sorts, and again the other way round."""
    page = visit()
    by_name = sorted([STRIPE, ADJUST, BROKEN, GOOGLE, REVENUECAT])
    for title, first, last in (
        ("Integration", by_name[0], by_name[-1]),
        ("Status", BROKEN, STRIPE),
        ("Last synced", ADJUST, REVENUECAT),
        ("Waiting for it", ADJUST, GOOGLE),
    ):
        page.get_by_role("button", name=title).click()
        if page.locator("[aria-sort=ascending]").count() == 0:
            page.get_by_role("button", name=title).click()
        expect(rows(page).first).to_contain_text(first)
        expect(page.locator("[aria-sort=ascending]")).to_contain_text(title)
        if title != "Status":
            page.get_by_role("button", name=title).click()
            expect(rows(page).first).to_contain_text(last)
    page.get_by_role("searchbox").press_sequentially("Attribution adjust")
    expect(rows(page)).to_have_count(1)
    page.reload()
    expect(page.get_by_role("searchbox")).to_have_value("Attribution adjust")
    expect(rows(page)).to_have_count(1)
    page.get_by_role("searchbox").fill("nobody has this")
    expect(page.get_by_text("No integration has what is in the filter")).to_be_visible()


def test_it_refreshes_itself(visit: Visit, flokit: Simulator) -> None:
    """What changes at FloKit shows without a reload; what one is typing stays, and the age is told."""
    page = visit()
    page.get_by_role("searchbox").press_sequentially("google")
    expect(page.locator("#age")).to_have_text(re.compile(r"FloKit asked [1-9]\d* s ago"))
    flokit.set_state(GOOGLE, status="error", error_message="The service account was deleted")
    expect(rows(page, GOOGLE)).to_contain_text("The service account was deleted", timeout=100_000)
    flokit.set_state(GOOGLE, status="connected", error_message=None)
    expect(page.get_by_role("searchbox")).to_have_value("google")
    expect(page.get_by_role("searchbox")).to_be_focused()
    expect(rows(page)).to_have_count(1)
    page.context.clear_cookies()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#age")).to_contain_text("HTTP 401: reload this page")
    expect(rows(page, GOOGLE)).to_be_visible()


def test_a_viewer_may_not(visit: Visit) -> None:
    """Who may not read connections is told so."""
    page = visit(user="viewer")
    expect(page.locator("main")).to_have_text(re.compile("You have no right to read Airflow's connections"))
    assert STRIPE not in page.content()


def test_flokit_is_down(visit: Visit, connect: Any, picture: Picture) -> None:
    """A workspace that cannot be asked says why in its place, while the other shows."""
    connect("flokit_emea", "http://127.0.0.1:9", "fk_rw_of_another_workspace")
    page = visit()
    expect(page.locator(".trouble")).to_contain_text("no answer from http://127.0.0.1:9")
    expect(rows(page, STRIPE)).to_be_visible()
    assert "fk_rw_of_another_workspace" not in page.content()
    picture(page, "page-down")


def test_five_hundred(visit: Visit, connect: Any) -> None:
    """Five hundred integrations, some with odd names, are shown, and nothing of them runs or sticks out."""
    with Simulator() as simulator:
        for number in range(498):
            simulator.add_integration(f"int_{number:03}", "stripe")
        odd = "<img src=x onerror=alert(1)>" + "W" * 200
        simulator.add_integration("int_odd", odd, status="error", error_message=f"{odd} {'very long ' * 60}")
        simulator.add_integration("int_" + "w" * 120, "stripe", status="paused_by_finance")
        connect("flokit_big", simulator.url, simulator.api_key)
        page = visit()
        expect(rows(page)).to_have_count(505)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.get_by_role("searchbox").fill("stripe int_49")
        expect(rows(page)).to_have_count(8)


def test_no_connection(airflow: LocalAirflow, browser: Browser) -> None:
    """An Airflow without a connection to FloKit says how to get one."""
    for connection in airflow.api("GET", "/api/v2/connections?limit=100")["connections"]:
        if connection["conn_type"] == "flokit":
            airflow.cli("connections", "delete", connection["connection_id"])
    with browser.new_page() as page:
        page.goto(airflow.url)  # where everybody is an administrator, a cookie comes from here
        page.get_by_role("button", name="Browse").wait_for()
        page.goto(f"{airflow.url}/flokit/")
        expect(page.locator("main")).to_contain_text("There is no connection to FloKit yet")
        page.get_by_role("link", name="Add one").click()
        expect(page).to_have_url(f"{airflow.url}/connections")
