"""A simulator that runs by hand: its command line, what it prints, and what one can type."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import requests

from airflow_provider_flokit.simulator.__main__ import main, run_command

from .conftest import ID, SYNC, Call, Clock

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import Simulator

COMMAND = [sys.executable, "-m", "airflow_provider_flokit.simulator"]


def test_fail_and_finish(sim: Simulator, clock: Clock, call: Call) -> None:
    """The next triggered sync fails with the words that were typed, as soon as it is told to end."""
    assert run_command("finish", sim) == "No sync runs"
    assert run_command("fail 1 bad secret\n", sim) == f"The next triggered sync of {ID} will fail: bad secret"
    call("POST", SYNC)
    clock.now += 15
    assert run_command(f"finish {ID}", sim) == f"{ID}: {sim.syncs[0].sync_id} failed"
    assert f"{ID:<24} stripe             error: bad secret" in run_command("status", sim)


def test_without_an_id_all_are_meant(sim: Simulator) -> None:
    """A message without an id is told to every integration; FloKit's own syncs start for every one too."""
    sim.add_integration("other")
    assert f"{ID}, other will fail: no access" in run_command("fail no access", sim)
    assert run_command("sync", sim).count("waiting") == 2
    assert [run.trigger for run in sim.syncs] == ["scheduled", "scheduled"]
    assert "other" not in run_command("sync int", sim)


def test_what_it_does_not_know(sim: Simulator) -> None:
    """Other commands and ids are answered with what there is."""
    assert "rotate               replace the API key" in run_command("halt", sim)
    assert run_command("sync none", sim) == f"There is no integration none; there are {ID}"


def test_rotate_and_down(sim: Simulator, call: Call) -> None:
    """The old key is refused at once, and while it is down nobody is answered."""
    shown = run_command("rotate", sim)
    assert sim.connection_uri() in shown
    assert call("GET", key="fk_rw_simulator").status_code == 401
    sim.fail(503)
    run_command("down", sim)
    with pytest.raises(requests.ConnectionError):
        call("GET")
    run_command("up", sim)
    assert call("GET").status_code == 200


@pytest.mark.parametrize(("stdin", "number"), [(subprocess.PIPE, signal.SIGINT), (subprocess.DEVNULL, signal.SIGTERM)])
def test_the_program(stdin: int, number: signal.Signals) -> None:
    """It says how to reach it and what is asked, does what is typed, serves on when nobody types, and ends cleanly."""
    options = ["--port", "0", "--integration", "int_a:adjust", "--integration", "int_b:stripe:error"]
    with subprocess.Popen([*COMMAND, *options], stdin=stdin, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        head = "".join(process.stdout.readline() for _ in range(9))
        assert "int_a                    adjust             connected" in head
        assert "int_b                    stripe             error" in head
        port = re.search(r"^export AIRFLOW_CONN_FLOKIT_DEFAULT=flokit://:\w+@127.0.0.1:(\d+)/http", head, re.MULTILINE)
        assert port is not None
        if process.stdin is not None:
            process.stdin.write("fail int_a no access\n")
            process.stdin.flush()
            assert process.stdout.readline() == "The next triggered sync of int_a will fail: no access\n"
        requests.get(f"http://127.0.0.1:{port[1]}/v1/integrations", timeout=30)
        assert re.search(r"GET +/v1/integrations +401 +missing API key", process.stdout.readline())
        process.send_signal(number)
        assert process.stdout.read() == "stopped\n"
        assert process.wait(30) == 0


def test_mistakes_are_explained(sim: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """A port that is taken, or a wrong option, is said without a traceback."""
    taken = subprocess.run([*COMMAND, "--port", str(sim.port)], capture_output=True, text=True, check=False)
    assert (taken.returncode, taken.stderr) == (1, "")
    assert taken.stdout.startswith(f"Cannot listen on port {sim.port}")
    for wrong in (["--integration", "x"], ["--rate-limit", "x"]):
        with pytest.raises(SystemExit):
            main(wrong)
        assert f"argument {wrong[0]}: invalid" in capsys.readouterr().err
