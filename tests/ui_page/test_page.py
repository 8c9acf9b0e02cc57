"""What the page shows, and to whom; asked as a browser asks, in Airflow's API server app."""

from __future__ import annotations

import html
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.models import Integration, SyncReceipt
from airflow_provider_flokit.simulator import Fault, Simulator
from airflow_provider_flokit.ui import workspaces

if TYPE_CHECKING:
    from tests.ui_page.conftest import Login
    from tests.ui_page.database import Database

STRIPE, ADJUST, BROKEN = "int_stripe", "int_adjust", "int_appsflyer"
NOW = datetime.now(UTC)
SYNCED = NOW.replace(microsecond=0) - timedelta(hours=3, seconds=5)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Airflow's and its libraries' own


@pytest.fixture(autouse=True)
def _workspace(database: Database, flokit: Simulator) -> None:
    """One connection to a workspace: healthy, never synced, and in error."""
    flokit.add_integration(STRIPE, "stripe", last_synced_at=SYNCED)
    flokit.add_integration(ADJUST, "adjust", last_synced_at=None)
    reason = "The token was revoked"
    flokit.add_integration(BROKEN, "appsflyer", status="error", error_message=reason, last_synced_at=SYNCED)
    database.connect("flokit_default", flokit)


def text(page: str) -> str:
    """Return what a person reads."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def rows(page: str) -> dict[str, str]:
    """Return what a person reads in each integration's row, by its id, in order."""
    found = map(text, re.findall(r'<tr class="integration">(.*?)</tr>', page, re.DOTALL))
    return {row.split()[0]: row for row in found}


# Who may see it


def test_nobody_without_a_login(log_in: Login) -> None:
    """A browser is led to the login and back; a script gets 401; neither learns anything."""
    browser = log_in(None)
    answer = browser.get("/flokit/?q=stripe")
    assert answer.status_code == 307
    assert re.match(r"\.\./api/v2/auth/login\?next=.*flokit", answer.headers["location"])
    script = browser.get("/flokit/", headers={"Accept": "*/*"})
    assert script.status_code == 401
    assert STRIPE not in script.text
    browser.cookies.set("_token", "forged")
    assert browser.get("/flokit/").status_code in {307, 403}


@pytest.mark.parametrize(("name", "may"), [("ada", True), ("otto", True), ("uma", False), ("vera", False)])
def test_only_who_may_read_connections(log_in: Login, flokit: Simulator, name: str, may: bool) -> None:
    """A user and a viewer of Airflow's simple auth manager may not: 403, and FloKit is not asked."""
    answer = log_in(name).get("/flokit/")
    assert answer.status_code == (200 if may else 403)
    assert (STRIPE in answer.text) is may
    assert ("no right to read" in answer.text) is not may
    assert len(flokit.requests) == may


def forbid(patch: pytest.MonkeyPatch, name: str, forbidden: Any) -> None:
    """Let Airflow's auth manager forbid something more."""
    from airflow.api_fastapi.app import get_auth_manager

    manager = get_auth_manager()
    allows = getattr(manager, name)

    def decide(*, details: Any = None, **others: Any) -> bool:
        return not (details and forbidden(details)) and bool(allows(details=details, **others))

    patch.setattr(manager, name, decide)


def test_which_connections_show(
    log_in: Login, database: Database, flokit: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the database, and others that a task waits on or an asset names; each only to who may read it."""
    for name in ("emea", "apac", "idle", "secret_too"):
        monkeypatch.setenv(f"AIRFLOW_CONN_FLOKIT_{name.upper()}", flokit.connection_uri())
    database.connect("flokit_secret", flokit)
    database.connect("warehouse", flokit, conn_type="postgres")
    for conn_id in ("flokit_emea", "flokit_secret_too"):
        database.deferred(f"on_{conn_id}", integration_id=STRIPE, flokit_conn_id=conn_id)
    for conn_id in ("flokit_apac", "warehouse"):
        database.asset(conn_id, f"flokit://{conn_id}/{STRIPE}")
    forbid(monkeypatch, "is_authorized_connection", lambda details: "secret" in str(details.conn_id))
    page = log_in().get("/flokit/").text
    assert re.findall(r'colspan="4">(\w+)', page) == ["flokit_apac", "flokit_default", "flokit_emea"]
    assert "secret" not in page
    assert len(flokit.requests) == 3


def test_only_tasks_and_assets_that_the_viewer_may_read(
    log_in: Login, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task is shown to who may read its DAG and task instances, an asset to who may read it."""
    for dag_id in ("load", "payroll"):
        database.deferred(dag_id, integration_id=STRIPE)
    database.in_worker("payroll_sync", "FlokitTriggerSyncOperator", integration_id=ADJUST)
    database.watched("sales", STRIPE)
    hidden = database.watched("salaries", ADJUST)
    page = log_in().get("/flokit/").text
    assert "payroll" in page
    assert "salaries" in page
    forbid(monkeypatch, "is_authorized_dag", lambda details: details.id in ("payroll", "payroll_sync"))
    forbid(monkeypatch, "is_authorized_asset", lambda details: details.id == str(hidden))
    page = log_in().get("/flokit/").text
    assert "load · wait" in rows(page)[STRIPE]
    assert "asset sales" in rows(page)[STRIPE]
    assert "payroll" not in page
    assert "salaries" not in page


def test_nothing_of_a_connection_but_its_id(log_in: Login, database: Database, flokit: Simulator) -> None:
    """The key is in no answer, whatever FloKit says and however asking it fails; nor are host and extra."""
    database.connect("flokit_odd", flokit, proxies='{"http": "http://ada:proxysecret@127.0.0.1:9"}')
    flokit.set_state(BROKEN, status="error", error_message=f"Bearer {flokit.api_key} refused")
    answers = [log_in().get("/flokit/").text]
    assert "Bearer *** refused" in text(answers[0])
    for fault in (401, Fault.drop()):
        workspaces._looks.clear()
        flokit.fail(fault)
        answers.append(log_in().get("/flokit/").text)
    for page in answers:
        assert flokit.api_key not in page
        assert "proxysecret" not in page


def test_it_is_read_only(log_in: Login) -> None:
    """There is nothing to POST, and no answer may load or run anything from elsewhere."""
    browser = log_in()
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert browser.request(method, "/flokit/").status_code == 405
    answer = browser.get("/flokit/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.findall(r"(?:src|href|action)=\"(?:https?:)?//", answer.text)
    for file in re.findall(r"\"(static/[^\"]*)\"", answer.text):
        assert browser.get(f"/flokit/{file}").status_code == 200


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> \x1b[31m\N{RIGHT-TO-LEFT OVERRIDE} {{ 7 * 7 }}"


def test_hostile_names_are_text(log_in: Login, database: Database, flokit: Simulator) -> None:
    """What FloKit or a DAG writes is shown as text, and hides nothing."""
    flokit.add_integration("int_<b>&#x27;", HOSTILE, status='x" onclick="alert(1)', error_message=HOSTILE)
    database.deferred("load", integration_id="int_&lt;'\"<i>")
    page = log_in().get("/flokit/").text
    for active in ("<script>alert", "<img", "<b>", "<i>", ' onclick="', "\N{RIGHT-TO-LEFT OVERRIDE}", "\x1b"):
        assert active not in page
    assert "{{ 7 * 7 }}" in page


# What it shows


def test_integrations(log_in: Login, flokit: Simulator) -> None:
    """What wants attention first, with FloKit's message; the age of the last sync, and its exact time on hover."""
    flokit.add_integration("int_busy", "google", status="syncing")
    flokit.add_integration("int_gone", "google", status="disconnected")
    flokit.add_integration("int_new", "google", status="paused_by_finance")
    page = log_in().get("/flokit/").text
    found = rows(page)
    assert list(found) == [BROKEN, "int_gone", "int_new", "int_busy", ADJUST, STRIPE]
    assert "error The token was revoked" in found[BROKEN]
    assert found[ADJUST] == f"{ADJUST} adjust connected never"
    assert found[STRIPE] == f"{STRIPE} stripe connected 3 h ago"
    assert f'title="{SYNCED:%Y-%m-%d %H:%M:%S} UTC">3 h ago' in page
    assert re.search(r"2 connected, 1 disconnected.* \(as of ([\d \w]* )?\d\d:\d\d:\d\d UTC\)", text(page))


def test_waiting_in_the_triggerer(log_in: Login, database: Database) -> None:
    """A deferred task is shown at each of its integrations: since when, until when and why, with a link to it."""
    deadline = datetime.now(UTC) + timedelta(minutes=50)
    times = {"synced_after": NOW.isoformat(), "timeout": 3600.0, "deadline": deadline.timestamp()}
    database.deferred("load", integration_id=[STRIPE, ADJUST], **times)
    database.deferred("of_a_template", integration_id=BROKEN, synced_after="{{ data_interval_end }}")
    page = log_in().get("/flokit/").text
    for integration in (STRIPE, ADJUST):
        row = rows(page)[integration]
        assert re.search(r"load · wait for 1\d min( \d+ s)? · until ", row)
        assert f"{deadline:%H:%M:%S} UTC" in row
        assert "is connected, but has to sync at or after" in row
    assert 'href="../dags/load/runs/manual__1/tasks/wait"' in page
    assert "of_a_template · wait for" in rows(page)[BROKEN]


def test_why_a_task_waits(log_in: Login, database: Database, flokit: Simulator) -> None:
    """The reason is the verdict of the wait itself, with the receipt and the settings of the task."""
    flokit.add_integration("int_gone", "google", status="disconnected")
    for baseline in (
        Integration(STRIPE, "stripe", "connected", last_synced_at=SYNCED),
        Integration(BROKEN, "appsflyer", "error", SYNCED, "The token was revoked"),
    ):
        receipt = SyncReceipt(baseline.id, baseline, NOW - timedelta(hours=1), "sync_9").to_json()
        database.deferred(f"sync_{baseline.type}", receipt=receipt, start_timeout=86400.0)
    database.deferred("patient", integration_id="int_gone", fail_on_disconnected=False)
    found = rows(log_in().get("/flokit/").text)
    assert "is connected, but has not finished sync sync_9" in found[STRIPE]
    assert "but that is from before this sync" in found[BROKEN]
    assert re.search(r"patient · wait .*· is disconnected", found["int_gone"])


def test_waiting_for_what_is_not_there(log_in: Login, database: Database) -> None:
    """What FloKit does not list is shown as not found, and why; a type is shown at its integration if it has one."""
    database.watched("sales", "int_strpe")
    database.deferred("load", integration_type=["stripe", "warehouse"])
    page = log_in().get("/flokit/").text
    assert "not found did you mean int_stripe? asset sales watched" in rows(page)["int_strpe"]
    assert "load · wait" in rows(page)[STRIPE]
    assert "the warehouse integration not found FloKit has no integration of the type 'warehouse'" in text(page)


def test_waiting_in_a_worker(log_in: Login, database: Database) -> None:
    """Running and rescheduled tasks of our classes are shown as far as their rendered fields tell; others are not."""
    database.in_worker("a", "FlokitTriggerSyncOperator", integration_id=STRIPE)
    database.in_worker("b", "FlokitIntegrationSensor", "up_for_reschedule", integration_type="stripe")
    database.in_worker("c", "FlokitIntegrationSensor", integration_id=STRIPE, synced_after="2999-01-01")
    database.in_worker("d", "FlokitIntegrationSensor", "success", integration_id=STRIPE)
    database.in_worker("e", "PythonOperator", integration_id=STRIPE)
    database.in_worker("f", "FlokitIntegrationSensor", receipt="Truncated. You can change this ...")
    page = log_in().get("/flokit/").text
    time = r"for [89] min(?: \d+ s)?"
    later = "is connected, but has to sync at or after"
    shown = rf"a · wait {time} b · wait {time} · ready: goes on at its next look c · wait {time} · {later}"
    assert re.search(shown, rows(page)[STRIPE])
    assert "f · wait" in text(page)
    assert "d · wait" not in text(page)
    assert "e · wait" not in text(page)


def test_mapped_tasks_are_one_line(log_in: Login, database: Database) -> None:
    """Many mapped waits for an integration are one line, which leads to all of them."""
    for index in range(30):
        database.deferred("load", index, integration_id=STRIPE)
    page = log_in().get("/flokit/").text
    assert rows(page)[STRIPE].count("load · wait") == 1
    assert "load · wait \N{MULTIPLICATION SIGN} 30" in rows(page)[STRIPE]
    assert 'href="../dags/load/runs/manual__1/tasks/wait/mapped"' in page


def test_a_watched_asset(log_in: Login, database: Database) -> None:
    """An asset is shown with the age of its last event: after a success, a watcher that is stuck has an old one."""
    database.watched("sales", STRIPE, NOW - timedelta(hours=2, seconds=5), NOW - timedelta(days=1))
    database.watched("campaigns", ADJUST)
    page = log_in().get("/flokit/").text
    assert "asset sales watched, last event 2 h ago" in rows(page)[STRIPE]
    assert "asset campaigns watched, no event yet" in rows(page)[ADJUST]
    assert re.search(r'href="../assets/\d+">asset sales', page)


def test_nothing_to_show(log_in: Login, database: Database) -> None:
    """A workspace without integrations says so; who has no connection to FloKit is told how to get one."""
    with Simulator() as empty:
        database.connect("flokit_new", empty)
        page = text(log_in().get("/flokit/").text)
        assert re.search(r"flokit_new \(as of [^)]*\) This workspace has no integrations yet\.", page)
    database.clear()
    page = log_in().get("/flokit/").text
    assert "no connection to FloKit yet" in page
    assert 'href="../connections"' in page


# It never hurts


def test_flokit_is_asked_once(log_in: Login, flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many people look within 15 s: one request, and nothing but the list."""
    monkeypatch.setattr(workspaces, "MAX_AGE", 3600.0)  # on a slow machine, too
    browsers = [log_in() for _ in range(4)]
    with ThreadPoolExecutor(4) as people:
        pages = list(people.map(lambda browser: browser.get("/flokit/"), browsers * 3))
    assert all(STRIPE in page.text for page in pages)
    assert [(request.method, request.path) for request in flokit.requests] == [("GET", "/v1/integrations")]


def test_it_is_asked_again_later(log_in: Login, flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 15 s it is asked again; a failure is not retried before, and what it said last stays under it."""
    monkeypatch.setattr(workspaces, "MAX_AGE", 0.0)
    log_in().get("/flokit/")
    flokit.fail(503)
    page = log_in().get("/flokit/").text
    assert re.search(r"as of .* HTTP 503.* Below is what it said last\.", text(page))
    assert STRIPE in rows(page)
    monkeypatch.setattr(workspaces, "MAX_AGE", 3600.0)
    assert "HTTP 503" in text(log_in().get("/flokit/").text)
    assert len(flokit.requests) == 2
    monkeypatch.setattr(workspaces, "MAX_AGE", 0.0)
    assert "HTTP 503" not in text(log_in().get("/flokit/").text)


def test_those_that_cannot_be_asked(log_in: Login, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each says why in its place, with who waits for it; slow ones are not asked again, and the others show."""
    with Simulator() as slow, Simulator() as strict:
        for name in ("flokit_a", "flokit_b"):
            database.connect(name, slow)
        slow.fail(Fault.slow(60), times=2)
        database.connect("flokit_wrong_key", strict)
        strict.rotate_key()
        database.deferred("load", integration_id="int_emea", flokit_conn_id="flokit_wrong_key")
        page = log_in().get("/flokit/").text
        monkeypatch.setattr(workspaces, "MAX_AGE", 0.0)
        monkeypatch.setattr(workspaces, "PATIENCE", 1.0)
        log_in().get("/flokit/")
        assert len(slow.requests) == 2
    assert text(page).count("FloKit has not answered yet") == 2
    assert "HTTP 401" in text(page)
    assert "int_emea unknown load · wait" in rows(page)["int_emea"]
    assert "3 h ago" in rows(page)[STRIPE]
