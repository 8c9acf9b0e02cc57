"""What the page shows, and to whom; asked as a browser asks, in Airflow's API server app."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_flokit.simulator import Fault
from airflow_provider_flokit.ui import workspaces

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import Simulator
    from tests.ui_page.conftest import Database, Login

STRIPE, ADJUST, BROKEN = "int_stripe", "int_adjust", "int_appsflyer"
NOW = datetime.now(UTC)
SYNCED = NOW.replace(microsecond=0) - timedelta(hours=3, seconds=5)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Airflow's and its libraries' own


@pytest.fixture(autouse=True)
def _workspace(database: Database, flokit: Simulator) -> None:
    """One connection to a workspace: healthy, never synced, and in error."""
    flokit.add_integration(STRIPE, "stripe", last_synced_at=SYNCED)
    flokit.add_integration(ADJUST, "adjust", last_synced_at=None)
    flokit.add_integration(BROKEN, "appsflyer", status="error", error_message="The token was revoked")
    database.connect("flokit_default", flokit)


@pytest.fixture
def flokit() -> Any:
    """A simulator that no connection of the environment leads to."""
    from airflow_provider_flokit.simulator import Simulator

    with Simulator() as simulator:
        yield simulator


def text(html: str) -> str:
    """Return what a person reads."""
    import html as entities

    return " ".join(entities.unescape(re.sub(r"<[^>]*>", " ", html)).split())


def rows(html: str) -> dict[str, str]:
    """Return what a person reads in each integration's row, by its place in the page, in order."""
    found = re.findall(r'<tr id="([^"]*/[^"]*)">(.*?)</tr>', html, re.DOTALL)
    return {place.split("/")[1]: text(row) for place, row in found}


def forget() -> None:
    """Let the next page ask FloKit again."""
    workspaces._workspaces.clear()


# Who may see it


def test_nobody_without_a_login(log_in: Login) -> None:
    """A browser is led to the login and back; a script gets 401; neither learns anything."""
    browser = log_in(None)
    answer = browser.get("/flokit/?q=stripe")
    assert answer.status_code == 307
    assert answer.headers["location"].startswith("../api/v2/auth/login?next=")
    assert "flokit" in answer.headers["location"]
    script = browser.get("/flokit/", headers={"Accept": "*/*"})
    assert script.status_code == 401
    assert STRIPE not in script.text
    browser.cookies.set("_token", "forged")
    assert browser.get("/flokit/").status_code in {307, 403}


@pytest.mark.parametrize("name", ["vera", "uma"])
def test_nobody_without_the_right_to_read_connections(log_in: Login, name: str, flokit: Simulator) -> None:
    """A viewer and a user of Airflow's simple auth manager may read no connections: 403, and FloKit is not asked."""
    answer = log_in(name).get("/flokit/")
    assert answer.status_code == 403
    assert "no right to read" in text(answer.text)
    assert STRIPE not in answer.text
    assert not flokit.requests


@pytest.mark.parametrize("name", ["ada", "otto"])
def test_who_may_read_connections_sees_them(log_in: Login, name: str) -> None:
    """An administrator and an operator may."""
    answer = log_in(name).get("/flokit/")
    assert answer.status_code == 200
    assert set(rows(answer.text)) == {STRIPE, ADJUST, BROKEN}


def test_only_connections_that_the_viewer_may_read(
    log_in: Login, database: Database, flokit: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each connection is shown to whom the auth manager lets read it, stored or only named by a task that waits."""
    database.connect("flokit_secret", flokit)
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_ENV", flokit.connection_uri())
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_SECRET_ENV", flokit.connection_uri())
    database.deferred("load", "wait", integration_id=STRIPE, flokit_conn_id="flokit_env")
    database.deferred("load", "wait_too", integration_id=STRIPE, flokit_conn_id="flokit_secret_env")
    forbid(monkeypatch, "is_authorized_connection", lambda details: "secret" in str(details and details.conn_id))
    page = log_in().get("/flokit/").text
    assert f'id="flokit_env/{STRIPE}"' in page
    assert f'id="flokit_default/{STRIPE}"' in page
    assert "secret" not in page


def test_only_tasks_of_dags_that_the_viewer_may_read(
    log_in: Login, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task is shown to who may read its DAG's task instances."""
    for dag_id in ("load", "payroll"):
        database.deferred(dag_id, "wait", integration_id=STRIPE)
    database.in_worker("payroll", "sync", "FlokitTriggerSyncOperator", integration_id=ADJUST)
    assert "payroll" in log_in().get("/flokit/").text
    forbid(monkeypatch, "is_authorized_dag", lambda details: details and details.id == "payroll")
    page = log_in().get("/flokit/").text
    assert "load · wait" in rows(page)[STRIPE]
    assert "payroll" not in page


def test_only_assets_that_the_viewer_may_read(
    log_in: Login, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watched asset is shown to who may read it."""
    database.watched("sales", STRIPE)
    hidden = database.watched("salaries", ADJUST)
    forbid(monkeypatch, "is_authorized_asset", lambda details: details and details.id == str(hidden))
    page = log_in().get("/flokit/").text
    assert "asset sales watched" in rows(page)[STRIPE]
    assert "salaries" not in page


def forbid(patch: pytest.MonkeyPatch, name: str, forbidden: Any) -> None:
    """Let Airflow's auth manager forbid something more."""
    from airflow.api_fastapi.app import get_auth_manager

    manager = get_auth_manager()
    allows = getattr(manager, name)

    def decide(*, details: Any = None, **others: Any) -> bool:
        return not forbidden(details) and bool(allows(details=details, **others))

    patch.setattr(manager, name, decide)


def test_nothing_of_a_connection_but_its_id(log_in: Login, database: Database, flokit: Simulator) -> None:
    """The key is in no answer, whatever FloKit says and however asking it fails; nor are host and extra."""
    database.connect("flokit_odd", flokit, proxies='{"http": "http://ada:proxysecret@127.0.0.1:9"}')
    flokit.set_state(BROKEN, status="error", error_message=f"Bearer {flokit.api_key} refused")
    answers = [log_in().get("/flokit/").text]
    forget()
    flokit.fail(401)
    answers.append(log_in().get("/flokit/").text)
    forget()
    flokit.fail(Fault.drop())
    answers.append(log_in().get("/flokit/").text)
    assert "Bearer *** refused" in text(answers[0])
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
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.findall(r"(?:src|href|action)=\"(?:https?:)?//", answer.text)
    assert "style=" not in answer.text
    assert 'method="post"' not in answer.text
    for file in re.findall(r"\"(static/[^\"]*)\"", answer.text):
        assert browser.get(f"/flokit/{file}").status_code == 200


# What it shows


def test_integrations(log_in: Login) -> None:
    """Those in error first, with FloKit's message; the age of the last sync, and its exact time on hover."""
    page = log_in().get("/flokit/").text
    found = rows(page)
    assert list(found) == [BROKEN, ADJUST, STRIPE]
    assert "error The token was revoked" in found[BROKEN]
    assert found[ADJUST] == f"{ADJUST} adjust connected never"
    assert found[STRIPE] == f"{STRIPE} stripe connected 3 h ago"
    assert f'title="{SYNCED:%Y-%m-%d %H:%M:%S} UTC">3 h ago' in page
    assert "flokit_default 1 error, 2 connected" in text(page)
    assert re.search(r"FloKit asked \d+ s ago", text(page))


def test_waiting_in_the_triggerer(log_in: Login, database: Database) -> None:
    """A deferred task is shown at its integration: since when, until when and why, with a link to it."""
    deadline = datetime.now(UTC) + timedelta(minutes=50)
    database.deferred(
        "load",
        "wait",
        integration_id=[STRIPE, ADJUST],
        synced_after=NOW.isoformat(),
        timeout=3600.0,
        deadline=deadline.timestamp(),
    )
    page = log_in().get("/flokit/").text
    for integration in (STRIPE, ADJUST):
        row = rows(page)[integration]
        assert re.search(r"load · wait for 1[01] min( \d+ s)? · until ", row)
        assert f"{deadline:%H:%M:%S} UTC" in row
        assert "is connected, but has to sync at or after" in row
    assert 'href="../dags/load/runs/manual__1/tasks/wait"' in page


def test_waiting_for_a_sync(log_in: Login, database: Database) -> None:
    """With a receipt, the reason is the verdict's: that very sync is not done."""
    baseline = {"id": STRIPE, "type": "stripe", "status": "connected", "last_synced_at": SYNCED.isoformat()}
    receipt = {
        "integration_id": STRIPE,
        "sync_id": "sync_9",
        "triggered_at": NOW.isoformat(),
        "baseline": baseline,
    }
    database.deferred("load", "sync", receipt=receipt)
    assert "has not finished sync sync_9" in rows(log_in().get("/flokit/").text)[STRIPE]


def test_waiting_by_type(log_in: Login, database: Database) -> None:
    """A task that names a type is shown at the one integration of that type, or that there is none."""
    database.deferred("load", "wait", integration_type=["stripe", "warehouse"])
    found = rows(log_in().get("/flokit/").text)
    assert "load · wait" in found[STRIPE]
    (other,) = (row for row in found.values() if "the warehouse integration" in row)
    assert "not found FloKit has no integration of the type 'warehouse'" in other


def test_waiting_for_what_is_not_there(log_in: Login, database: Database) -> None:
    """An id that FloKit does not list is shown as not found, with what comes closest: a watcher is stuck on it."""
    database.watched("sales", "int_strpe")
    row = rows(log_in().get("/flokit/").text)["int_strpe"]
    assert "not found did you mean int_stripe?" in row
    assert "asset sales watched" in row


def test_waiting_in_a_worker(log_in: Login, database: Database) -> None:
    """Running and rescheduled tasks of our classes are shown as far as their rendered fields tell; others are not."""
    database.in_worker("a", "sync", "FlokitTriggerSyncOperator", integration_id=STRIPE)
    database.in_worker("b", "wait", "FlokitIntegrationSensor", "up_for_reschedule", integration_type="stripe")
    database.in_worker("c", "wait", "FlokitIntegrationSensor", integration_id=STRIPE, synced_after="2999-01-01")
    database.in_worker("d", "done", "FlokitIntegrationSensor", "success", integration_id=STRIPE)
    database.in_worker("e", "other", "PythonOperator", integration_id=STRIPE)
    database.in_worker("f", "cut", "FlokitIntegrationSensor", receipt="Truncated. You can change this ...")
    page = log_in().get("/flokit/").text
    row = rows(page)[STRIPE]
    assert re.search(r"a · sync for [89] min( \d+ s)? b · wait", row)
    assert re.search(r"b · wait for [89] min", row)
    assert "ready: goes on at its next look" in row
    assert "c · wait" in row
    assert "has to sync at or after 2999-01-01" in row
    assert "done" not in row
    assert "other" not in row
    assert "f · cut" in text(page)


def test_mapped_tasks_are_one_line(log_in: Login, database: Database) -> None:
    """A hundred mapped waits for an integration are one line; many tasks are cut at ten."""
    for index in range(30):
        database.deferred("load", "wait", index, integration_id=STRIPE)
    for number in range(12):
        database.deferred(f"dag_{number:02}", "wait", integration_id=ADJUST)
    page = log_in().get("/flokit/").text
    assert "load · wait \N{MULTIPLICATION SIGN} 30" in rows(page)[STRIPE]
    assert 'href="../dags/load/runs/manual__1/tasks/wait/mapped"' in page
    assert rows(page)[ADJUST].count("dag_") == 10
    assert "and 2 more" in rows(page)[ADJUST]


def test_what_no_triggerer_looks_for(log_in: Login, database: Database) -> None:
    """A wait or a watcher that no living triggerer has is told of."""
    database.deferred("load", "wait", integration_id=STRIPE, attended=False)
    database.deferred("load", "wait_too", integration_id=BROKEN)
    database.watched("sales", ADJUST, attended=False)
    found = rows(log_in().get("/flokit/").text)
    assert "no triggerer is alive" in found[STRIPE]
    assert "no triggerer is alive" in found[ADJUST]
    assert "no triggerer" not in found[BROKEN]


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="Airflow remembers nothing for watchers before 3.3")
def test_a_watcher_that_has_fallen_behind(log_in: Login, database: Database, flokit: Simulator) -> None:
    """A watcher that has not told of a success minutes later says of which it did; one that has says nothing."""
    for name, seen in ((STRIPE, SYNCED - timedelta(hours=1)), (BROKEN, SYNCED)):
        flokit.set_state(name, last_synced_at=SYNCED)
        database.remember(database.watched(f"asset_{name}", name), name, seen)
    found = rows(log_in().get("/flokit/").text)
    assert f"has told of nothing after {SYNCED - timedelta(hours=1):%H:%M:%S} UTC" in re.sub(
        r"after \d+ \w{3} ", "after ", found[STRIPE]
    )
    assert "has told" not in found[BROKEN]


def test_connections_that_cannot_be_listed(
    log_in: Login, database: Database, flokit: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection of the environment is shown if a task waits on it, or an asset names it."""
    for name in ("FLOKIT_EMEA", "FLOKIT_APAC", "FLOKIT_IDLE"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", flokit.connection_uri())
    database.deferred("load", "wait", integration_id=STRIPE, flokit_conn_id="flokit_emea")
    database.asset("sales", f"flokit://flokit_apac/{STRIPE}")
    page = log_in().get("/flokit/").text
    places = re.findall(r'class="connection" id="([^"]*)"', page)
    assert places == ["flokit_apac", "flokit_default", "flokit_emea"]


def test_connections_of_other_types_are_left_alone(log_in: Login, database: Database, flokit: Simulator) -> None:
    """What an asset names but is stored as something else is not shown, and its password sent nowhere."""
    database.connect("warehouse", flokit, conn_type="postgres")
    database.asset("sales", f"flokit://warehouse/{STRIPE}")
    assert "warehouse" not in log_in().get("/flokit/").text
    assert len(flokit.requests) == 1


def test_no_connection(log_in: Login, database: Database) -> None:
    """Who may read connections, but has none to FloKit, is told how to get one."""
    database.clear()
    page = log_in().get("/flokit/")
    assert page.status_code == 200
    assert "no connection to FloKit yet" in text(page.text)


def test_empty_workspace(log_in: Login, database: Database) -> None:
    """A workspace without integrations says so."""
    from airflow_provider_flokit.simulator import Simulator

    with Simulator() as empty:
        database.connect("flokit_new", empty)
        assert "flokit_new This workspace has no integrations yet." in text(log_in().get("/flokit/").text)


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> \x1b[31m\N{RIGHT-TO-LEFT OVERRIDE} {{ 7 * 7 }}"


def test_hostile_names_are_text(log_in: Login, database: Database, flokit: Simulator) -> None:
    """What FloKit, a DAG or somebody in the address bar writes is shown as text, and hides nothing."""
    flokit.add_integration("int_<b>&#x27;", HOSTILE, status="error", error_message=HOSTILE)
    database.asset("x", "flokit://flokit_%3Cb%3E/int_a")
    database.deferred("load", "wait", integration_id="int_&lt;'\"<i>")
    page = log_in().get("/flokit/", params={"q": HOSTILE, "sort": HOSTILE}).text
    page += log_in().get("/flokit/").text
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in text(page.split("<main")[2])
    assert "\x1b" not in page.split("<main")[2]
    assert "{{ 7 * 7 }}" in page


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("name", [ADJUST, BROKEN, STRIPE]),
        ("-name", [STRIPE, BROKEN, ADJUST]),
        ("status", [BROKEN, ADJUST, STRIPE]),
        ("synced", [ADJUST, STRIPE, BROKEN]),
        ("waiting", [STRIPE, ADJUST, BROKEN]),
        ("nonsense", [BROKEN, ADJUST, STRIPE]),
    ],
)
def test_sorting(log_in: Login, database: Database, sort: str, order: list[str]) -> None:
    """Each column sorts, and again the other way; the column says so."""
    database.deferred("load", "wait", integration_id=STRIPE)
    page = log_in().get("/flokit/", params={"sort": sort}).text
    assert list(rows(page)) == order
    assert page.count("aria-sort") == (sort != "nonsense")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("STRIPE", [STRIPE]),
        ("error", [BROKEN]),
        ("revoked token", [BROKEN]),
        ("load wait", [ADJUST]),
        ("never-heard-of", []),
        ("", [BROKEN, ADJUST, STRIPE]),
    ],
)
def test_filter(log_in: Login, database: Database, query: str, found: list[str]) -> None:
    """What one types has to occur: in id, type, status, message, or in who waits; the box keeps it."""
    database.deferred("load", "wait", integration_id=ADJUST)
    page = log_in().get("/flokit/", params={"q": query}).text
    assert list(rows(page)) == found
    assert f'name="q" value="{query}"' in page
    assert ("None of its 3 integrations" in text(page)) is (not found)


# It never hurts


def test_flokit_is_asked_once(log_in: Login, flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many people look within 15 s: one request, and nothing but the list."""
    monkeypatch.setattr(workspaces, "MAX_AGE", 3600.0)  # on a slow machine, too
    browsers = [log_in() for _ in range(4)]
    with ThreadPoolExecutor(4) as people:
        pages = list(people.map(lambda browser: browser.get("/flokit/?q=stripe"), browsers * 3))
    assert all(STRIPE in page.text for page in pages)
    assert [(request.method, request.path) for request in flokit.requests] == [("GET", "/v1/integrations")]


def test_it_is_asked_again_later(log_in: Login, flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 15 s it is asked again, also if it could not be asked before; a failure is not retried."""
    monkeypatch.setattr(workspaces, "MAX_AGE", 3600.0)
    flokit.fail(503)
    page = text(log_in().get("/flokit/").text)
    assert "HTTP 503" in page
    assert "HTTP 503" in text(log_in().get("/flokit/").text)
    assert len(flokit.requests) == 1
    monkeypatch.setattr(workspaces, "MAX_AGE", 0.0)
    assert STRIPE in rows(log_in().get("/flokit/").text)
    assert len(flokit.requests) == 2


def test_one_that_cannot_be_asked(log_in: Login, database: Database) -> None:
    """It says why in its place, with who waits for it, while the others show."""
    from airflow_provider_flokit.simulator import Simulator

    with Simulator() as other:
        database.connect("flokit_down", other)
        database.connect("flokit_wrong_key", other)
        other.rotate_key()
        database.deferred("load", "wait", integration_id="int_emea", flokit_conn_id="flokit_wrong_key")
        page = log_in().get("/flokit/").text
    assert "HTTP 401" in text(page)
    assert "unknown load · wait" in text(page)
    assert "3 h ago" in rows(page)[STRIPE]


def test_what_it_said_before_is_kept(log_in: Login, flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """If FloKit is away, what it said last stays, under a line that says how old it is."""
    monkeypatch.setattr(workspaces, "MAX_AGE", 0.0)
    log_in().get("/flokit/")
    flokit.fail(503)
    page = log_in().get("/flokit/").text
    assert STRIPE in rows(page)
    assert re.search(r"HTTP 503.* Below is what it said \d+ s ago\.", text(page))


def test_a_slow_one_holds_up_nobody(log_in: Login, database: Database) -> None:
    """Workspaces that do not answer cost one short patience together, and are told of while the other shows."""
    from airflow_provider_flokit.simulator import Simulator

    with Simulator() as slow:
        for name in ("flokit_a", "flokit_b"):
            database.connect(name, slow)
        slow.fail(Fault.slow(60), times=2)
        page = log_in().get("/flokit/").text
    assert text(page).count("FloKit has not answered for") == 2
    assert "3 h ago" in rows(page)[STRIPE]


def test_five_hundred(log_in: Login, flokit: Simulator) -> None:
    """Five hundred integrations are all there."""
    for number in range(497):
        flokit.add_integration(f"int_{number:03}")
    assert len(rows(log_in().get("/flokit/").text)) == 500
