"""The FloKit page in a real browser, in front of a whole Airflow with gates that wait."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from airflow_provider_flokit.simulator import Simulator
from tests.system.demo_page import STRIPE

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.system.local_airflow import LocalAirflow
    from tests.ui.conftest import Picture, Visit

PREFIX = "int_01hx4j7"
ADJUST, BROKEN, GOOGLE, REVENUECAT = (f"{PREFIX}{kind}" for kind in ("adjust", "appsflyer", "google", "revenuecat"))


def connect(stage: LocalAirflow, conn_id: str, url: str, key: str) -> None:
    """Add a connection to another workspace."""
    body = {"connection_id": conn_id, "conn_type": "flokit", "host": url, "password": key}
    stage.api("POST", "/api/v2/connections", body)


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


def test_from_a_failed_task(visit_task: Visit, picture: Picture) -> None:
    """A failed gate has a link to the page, which shows its integration."""
    task = visit_task("marketing", "wait_for_appsflyer")
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


def test_flokit_is_down(visit: Visit, stage: LocalAirflow, picture: Picture) -> None:
    """A workspace that cannot be asked says why in its place, while the other shows."""
    connect(stage, "flokit_emea", "http://127.0.0.1:9", "fk_rw_of_another_workspace")
    page = visit()
    expect(page.locator(".trouble")).to_contain_text("no answer from http://127.0.0.1:9")
    expect(rows(page, STRIPE)).to_be_visible()
    assert "fk_rw_of_another_workspace" not in page.content()
    picture(page, "page-down")


def test_it_refreshes_itself(visit: Visit, flokit: Simulator) -> None:
    """What changes at FloKit shows without a reload; what one is typing stays, and a problem is told."""
    page = visit()
    page.get_by_role("searchbox").press_sequentially("google")
    flokit.set_state(GOOGLE, status="error", error_message="The service account was deleted")
    expect(rows(page, GOOGLE)).to_contain_text("The service account was deleted", timeout=100_000)
    flokit.set_state(GOOGLE, status="connected", error_message=None)
    expect(page.get_by_role("searchbox")).to_have_value("google")
    expect(page.get_by_role("searchbox")).to_be_focused()
    expect(rows(page)).to_have_count(1)
    page.context.clear_cookies()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#problem")).to_have_text("Airflow answers with HTTP 401: reload this page.")
    expect(rows(page, GOOGLE)).to_be_visible()


def test_five_hundred(visit: Visit, stage: LocalAirflow) -> None:
    """Five hundred integrations, some with odd names, are shown, and nothing of them runs or sticks out."""
    with Simulator() as simulator:
        for number in range(498):
            simulator.add_integration(f"int_{number:03}", "stripe")
        odd = "<img src=x onerror=alert(1)>" + "W" * 200
        simulator.add_integration("int_odd", odd, status="error", error_message=f"{odd} {'very long ' * 60}")
        simulator.add_integration("int_" + "w" * 120, "stripe", status="paused_by_finance")
        connect(stage, "flokit_large", simulator.url, simulator.api_key)
        page = visit()
        expect(rows(page)).to_have_count(505)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.get_by_role("searchbox").fill("stripe int_49")
        expect(rows(page)).to_have_count(8)
