"""
See the FloKit page: ``make demo UI=1`` (``python -m tests.system.demo_page``).

It starts a FloKit simulator and a real Airflow in a scratch folder, with gates that wait, and keeps both running: what
one types here happens at FloKit, and shows in the page and in the gates. Ctrl-C ends it all.
"""

from __future__ import annotations

import math
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow_provider_flokit.simulator import Simulator, Sync
from airflow_provider_flokit.simulator.__main__ import run_command
from tests.system.local_airflow import LocalAirflow, LocalAirflowError
from tests.system.settings import AIRFLOW_VERSION

PAGE_DAGS = Path(__file__).parent / "page_dags"
CONN_ID = "flokit_default"
USERS = {"admin": "admin", "viewer": "viewer"}
STRIPE = "int_01hx4j7stripe"
WORDS = """\
run                  start the DAG warehouse (again)
key                  put FloKit's key, after a rotation, into Airflow's connection"""


def fill(simulator: Simulator) -> None:
    """Add integrations in every state: healthy, failing, syncing once a gate asks for it, and never synced."""
    now = datetime.now(UTC)
    # Until somebody types how it ends.
    simulator.sync = Sync(duration=math.inf)
    simulator.add_integration(STRIPE, "stripe", last_synced_at=now - timedelta(hours=6))
    simulator.add_integration(
        "int_01hx4j7appsflyer",
        "appsflyer",
        status="error",
        error_message="AppsFlyer refused the API token (HTTP 403): it was revoked on 27 November. Create a new one.",
        last_synced_at=now - timedelta(days=2),
    )
    simulator.add_integration("int_01hx4j7adjust", "adjust", last_synced_at=None)
    simulator.add_integration("int_01hx4j7revenuecat", "revenuecat", last_synced_at=now - timedelta(minutes=8))
    simulator.add_integration("int_01hx4j7google", "google_play", last_synced_at=now - timedelta(minutes=42))


def start_gates(airflow: LocalAirflow) -> None:
    """Let the gates wait or end, and the watcher watch."""
    airflow.unpause("churn")
    waiting = [airflow.trigger(dag_id) for dag_id in ("warehouse", "attribution")]
    ended = [airflow.trigger(dag_id) for dag_id in ("marketing", "finance", "all_sources")]
    airflow.wait_for(
        lambda: sum(run.count("deferred") for run in waiting) == 4 and all(run.count("failed") for run in ended),
        "the gates wait, or have failed",
        lambda: [run.tasks() for run in (*waiting, *ended)],
    )
    airflow.trigger("subscriptions")


def obey(line: str, simulator: Simulator, airflow: LocalAirflow) -> str:
    """Do what was typed, and return what to answer."""
    match line.strip():
        case "run":
            return f"A run of warehouse starts: {airflow.trigger('warehouse').run_id}"
        case "key":
            connection = {"connection_id": CONN_ID, "conn_type": "flokit", "password": simulator.api_key}
            airflow.api("PATCH", f"/api/v2/connections/{CONN_ID}?update_mask=password", connection)
            return "Airflow has the new key."
        case "help":
            return f"{WORDS}\n{run_command(line, simulator)}"
        case _:
            return run_command(line, simulator)


def demo(scratch: Path) -> None:
    """Run until Ctrl-C."""
    with Simulator() as simulator, LocalAirflow(scratch / "airflow", PAGE_DAGS, users=USERS) as airflow:
        fill(simulator)
        print("FloKit and Airflow start on this machine; this takes a minute or two ...")
        airflow.cli("connections", "add", CONN_ID, "--conn-uri", simulator.connection_uri())
        airflow.wait_until_ready()
        start_gates(airflow)
        print(f"\nAirflow:  {airflow.url}      log in as admin, password admin")
        print(f"The page: {airflow.url}/flokit/   (viewer, password viewer, may not read it)\n")
        print(obey("help", simulator, airflow))
        while True:
            try:
                print(obey(input("> "), simulator, airflow))
            except LocalAirflowError as error:
                print(error)


def main() -> int:
    """Run the demo and return the exit code."""
    if AIRFLOW_VERSION < (3, 1):
        print("The page needs Airflow 3.1.1: AIRFLOW=3.1 or later.")
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="flokit-demo-") as scratch:
            demo(Path(scratch))
    except (KeyboardInterrupt, EOFError):
        print("\nStopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
