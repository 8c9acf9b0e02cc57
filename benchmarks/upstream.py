"""
The API that a subject's triggers ask, in a process of its own: ``python -m benchmarks.upstream NAME``.

Driven by JSON lines on its standard input, each answered by one on its standard output; it ends when its input does.
FloKit is played by the package's simulator, a peer's API by a server that answers with one small document.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from benchmarks.files import allow_many_files
from benchmarks.subjects import SUBJECTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from airflow_provider_flokit.simulator import Simulator

HOST: Final = "127.0.0.1"


class Upstream:
    """
    An upstream in another process; a context manager that ends it.

    :param name: The subject's.
    """

    def __init__(self, name: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this very module
            [sys.executable, "-m", "benchmarks.upstream", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port: int = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fill(self, waits: int) -> None:
        """Let there be this many jobs, all of them running."""
        self._ask("fill", waits)

    def latency(self, seconds: float) -> None:
        """Answer each request after this time."""
        self._ask("latency", seconds)

    def requests(self) -> int:
        """Return how many requests came so far."""
        return int(self._ask("requests"))

    def finish(self) -> float:
        """End all jobs well, and return when, in seconds of ``time.monotonic()``."""
        return float(self._ask("finish"))

    def close(self) -> None:
        """End it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, *call: Any) -> Any:
        if self._process.stdin is None:
            raise RuntimeError("The upstream has no input")
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise RuntimeError("The upstream ended")
        return json.loads(line)


class _Played(Protocol):
    port: int

    def fill(self, waits: int) -> None: ...
    def latency(self, seconds: float) -> None: ...
    def requests(self) -> int: ...
    def finish(self) -> float: ...


class _Flokit:
    """FloKit, by the simulator."""

    def __init__(self) -> None:
        from airflow_provider_flokit.simulator import Simulator

        self._count = 0
        self._filled = 0
        self._simulator: Simulator = Simulator(
            api_key="fk_bench",  # a key of the simulator is no secret
            on_request=self._served,
        ).start()
        self.port = self._simulator.port

    def _served(self, _: object) -> None:
        self._count += 1
        self._simulator.clear_requests()

    def fill(self, waits: int) -> None:
        for number in range(self._filled, waits):
            self._simulator.add_integration(f"int_{number}", status="syncing")
        for number in range(min(self._filled, waits)):
            self._simulator.set_state(f"int_{number}", status="syncing")
        self._filled = max(self._filled, waits)

    def latency(self, seconds: float) -> None:
        self._simulator.configure(latency=seconds)

    def requests(self) -> int:
        return self._count

    def finish(self) -> float:
        # Right after a poll: the change has the whole interval before it, the longest way to the triggers.
        before, end = self._count, time.monotonic() + 20
        while self._count == before and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.1)
        for number in range(self._filled):
            self._simulator.set_state(f"int_{number}", status="connected")
        return time.monotonic()


class _Peer:
    """A peer's API: one answer for all jobs."""

    def __init__(self, answer: Callable[[str, bool], Any]) -> None:
        from concurrent.futures import Future

        self._answer = answer
        self._count = 0
        self._done = False
        self._latency = 0.0
        ready: Future[int] = Future()
        threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True).start()
        self.port = ready.result(30)

    async def _serve(self, ready: Future[int]) -> None:
        from aiohttp import web

        async def handle(request: web.Request) -> web.Response:
            self._count += 1
            await asyncio.sleep(self._latency)
            body = json.dumps(self._answer(request.path, self._done))
            return web.Response(text=body, content_type="application/json")

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0, backlog=4096).start()
        ready.set_result(int(runner.addresses[0][1]))
        await asyncio.Event().wait()

    def fill(self, _: int) -> None:
        self._done = False

    def latency(self, seconds: float) -> None:
        self._latency = seconds

    def requests(self) -> int:
        return self._count

    def finish(self) -> float:
        self._done = True
        return time.monotonic()


class _Nothing:
    """The sleeping trigger's: nothing."""

    port = 0

    def fill(self, _: int) -> None:
        pass

    def latency(self, _: float) -> None:
        pass

    def requests(self) -> int:
        return 0

    def finish(self) -> float:
        return time.monotonic()


def _play(name: str) -> _Played:
    if name == "flokit":
        return _Flokit()
    answer = SUBJECTS[name].answer
    return _Nothing() if answer is None else _Peer(answer)


def _main(name: str) -> None:
    allow_many_files()
    played = _play(name)
    sys.stdout.write(f"{played.port}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        sys.stdout.write(json.dumps(getattr(played, command)(*arguments)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main(sys.argv[1])
