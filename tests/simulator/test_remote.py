"""A simulator in another process: the control endpoints, their helper, and the command line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import requests

from airflow_provider_flokit.simulator import Fault, RemoteSimulator, Simulator, Sync, __main__

from .conftest import ID, Call

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def remote(sim: Simulator) -> RemoteSimulator:
    """Return the same simulator, seen over HTTP."""
    return RemoteSimulator(sim.url + "/")


def test_integrations(sim: Simulator, remote: RemoteSimulator) -> None:
    """Integrations are added, changed, read and removed as on the simulator itself."""
    added = remote.add_integration("new", "adjust", last_synced_at=None, sync=Sync(duration=3))
    assert added == sim.integration("new") == remote.integration("new")
    assert remote.set_state("new", status="error", error_message="E").error_message == "E"
    assert remote.integrations == sim.integrations
    remote.remove_integration("new")
    assert [one.id for one in sim.integrations] == [ID]


def test_syncs_and_scripts(sim: Simulator, remote: RemoteSimulator, call: Call, post: Call) -> None:
    """Plans, scheduled syncs and scripts take effect, and the syncs are listed alike."""
    remote.plan(ID, Sync(duration=0, error="planned"))
    post()
    assert sim.integration(ID).error_message == "planned"
    assert remote.run_scheduled_sync(ID, Sync(duration=9)).trigger == "scheduled"
    assert remote.syncs == sim.syncs
    remote.script(ID, [{"status": "paused"}])
    assert call("GET").json()["integrations"][0]["status"] == "paused"
    remote.script_after_sync(ID, [{"status": "disconnected"}])
    post()
    assert call("GET").json()["integrations"][0]["status"] == "disconnected"


def test_switches(sim: Simulator, remote: RemoteSimulator) -> None:
    """Switches are set and read as attributes or together."""
    remote.when_running = "queue"
    remote.configure(latency=0.01, rate_limit=(1000, 60))
    assert remote.switches == sim.switches
    assert (sim.when_running, remote.rate_limit, remote.rate_limited) == ("queue", (1000, 60.0), 0)


def test_faults_and_records(sim: Simulator, remote: RemoteSimulator, call: Call) -> None:
    """Faults come over unharmed, and the control calls themselves are neither recorded nor hit by them."""
    remote.fail(Fault.answer(418, b"\xff\x00", {"X-A": "b"}), path="/v1/*")
    remote.fail(503)
    answer = call("GET")
    assert (answer.status_code, answer.content, answer.headers["X-A"]) == (418, b"\xff\x00", "b")
    assert call("GET").status_code == 503
    remote.outage()
    with pytest.raises(requests.ConnectionError):
        call("GET")
    remote.clear_faults()
    assert call("GET").status_code == 200
    assert remote.requests == sim.requests == remote.wait_for_requests(4)
    remote.clear_requests()
    assert sim.requests == []
    with pytest.raises(TimeoutError, match="0 of 1"):
        remote.wait_for_requests(1, timeout=0.03)


def test_keys_and_connection(sim: Simulator, remote: RemoteSimulator) -> None:
    """Keys are read and rotated, and the connection is the simulator's."""
    assert remote.rotate_key("new") == sim.api_key == remote.api_key
    assert remote.read_only_key == sim.read_only_key
    assert remote.connection_uri(timeout=5) == sim.connection_uri(timeout=5)
    assert remote.connection_json() == sim.connection_json()


def test_errors_are_the_same(remote: RemoteSimulator) -> None:
    """Unknown ids and wrong values raise what the simulator itself raises."""
    with pytest.raises(KeyError, match="no integration none"):
        remote.integration("none")
    with pytest.raises(ValueError, match="when_running"):
        remote.when_running = "never"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="no stats"):
        remote.set_state(ID, stats=1)


@pytest.mark.parametrize(
    ("method", "name", "headers", "body", "status"),
    [
        ("GET", "state", {"Host": "evil.example"}, None, 403),
        ("GET", "state", {"Host": "localhost"}, None, 200),
        ("GET", "outage", {}, None, 404),
        ("POST", "nothing", {}, "{}", 404),
        ("POST", "outage", {"Content-Type": "text/plain"}, "{}", 400),
        ("POST", "outage", {"Content-Type": "application/json"}, "[]", 400),
        ("POST", "outage", {"Content-Type": "application/json"}, "{", 400),
        ("POST", "plan", {"Content-Type": "application/json"}, '{"integration_id": "x"}', 404),
    ],
)
def test_control_refuses(
    call: Call, method: str, name: str, headers: dict[str, str], body: str | None, status: int
) -> None:
    """Web pages' requests, unknown commands and other bodies are refused."""
    assert call(method, f"/_simulator/{name}", key=None, headers=headers, data=body).status_code == status
    assert call("GET").status_code == 200, "nothing took effect"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """Run the command line program on a free port, with an integration and a limit of its own."""
    command = [
        sys.executable,
        "-u",
        "-m",
        "airflow_provider_flokit.simulator",
        "--port",
        "0",
        "--rate-limit",
        "50/1",
    ]
    command += ["--integration", "int_a:adjust", "--integration", "int_b:stripe:error", "--duration", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        yield child
        child.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_line(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """It says how to reach it, prints a line per request, and stops cleanly on either signal."""
    assert process.stdout is not None
    head = [process.stdout.readline() for _ in range(8)]
    url = re.search(r"http://127\.0\.0\.1:\d+", head[0])
    assert url is not None
    remote = RemoteSimulator(url.group())
    assert f"export AIRFLOW_CONN_FLOKIT_DEFAULT={remote.connection_uri()}\n" in head
    assert [one.status for one in remote.integrations] == ["connected", "error"]
    requests.get(f"{remote.url}/v1/integrations", timeout=5)
    process.send_signal(number)
    rest, _ = process.communicate(timeout=5)
    assert process.returncode == 0
    assert re.search(r"GET +/v1/integrations +401 +missing API key", rest)
    assert rest.rstrip().endswith("stopped")


def test_command_line_in_process(capsys: pytest.CaptureFixture[str]) -> None:
    """By default it shows the three integrations of the reference's samples; a taken port is said."""
    with Simulator() as other:
        assert __main__.main(["--port", str(other.port)]) == 1
    assert "Cannot listen" in capsys.readouterr().out
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    assert __main__.main(["--port", "0", "--latency", "0"]) == 0
    shown = capsys.readouterr().out
    assert [name for name in ("revenuecat", "appsflyer", "stripe") if f"int_01hx4j7{name}" in shown] == [
        "revenuecat", "appsflyer", "stripe",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [["--integration", "x"], ["--rate-limit", "x"], ["--api-key", "fk_ro_simulator"], ["--latency", "-1"]],
)
def test_command_line_mistakes(wrong: list[str]) -> None:
    """A wrong option ends the program with an explanation, not a traceback."""
    with pytest.raises(SystemExit) as error:
        __main__.main(["--port", "0", *wrong])
    assert error.value.code == 2
