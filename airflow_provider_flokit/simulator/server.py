"""The simulator: a workspace that is served over HTTP on loopback, from a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Self, Unpack

from aiohttp import web

from airflow_provider_flokit.simulator import api, control, player
from airflow_provider_flokit.simulator.clock import Clock, moment
from airflow_provider_flokit.simulator.connection import Connectable
from airflow_provider_flokit.simulator.fault_list import FaultList
from airflow_provider_flokit.simulator.faults import Fault
from airflow_provider_flokit.simulator.journal import Journal
from airflow_provider_flokit.simulator.keys import READ_ONLY_KEY, READ_WRITE_KEY, KeyRing
from airflow_provider_flokit.simulator.records import RecordedRequest, Sync
from airflow_provider_flokit.simulator.rendering import http_date
from airflow_provider_flokit.simulator.workspace import Workspace

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType

    from airflow_provider_flokit.simulator.switches import SwitchValues

HOST = "127.0.0.1"


class Simulator(Workspace, Connectable):
    """
    A local FloKit API. A context manager; or use :meth:`start` and :meth:`stop`.

    The workspace outlives :meth:`stop`: after another :meth:`start`, on the same port, it goes on (time went
    on too).

    :param port: the port; default 0, any free one.
    :param api_key: the read-write key.
    :param read_only_key: the read-only key.
    :param sync: the shape of every sync for which nothing else was said; default ``Sync()``.
    :param clock: the present moment in seconds since the epoch; default the wall clock.
    :param on_request: called with each request once its answer is known, in the server's thread.
    :param tls: serves https with this; default None, plain http.
    :param switches: see :class:`~airflow_provider_flokit.simulator.switches.Switches`.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        api_key: str = READ_WRITE_KEY,
        read_only_key: str = READ_ONLY_KEY,
        sync: Sync | None = None,
        clock: Clock = time.time,
        on_request: Callable[[RecordedRequest], None] | None = None,
        tls: ssl.SSLContext | None = None,
        **switches: Unpack[SwitchValues],
    ) -> None:
        super().__init__(sync=sync, clock=clock, **switches)
        self._keys = KeyRing(api_key, read_only_key)
        self._faults = FaultList()
        self._journal = Journal(on_request)
        self._limiter = api.RateLimiter(clock)
        self._port = port
        self._tls = tls
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    # Running

    def start(self) -> Self:
        """Begin to serve (again) and return when connections are accepted; no-op when it serves already."""
        if self._thread is None:
            ready: Future[int] = Future()
            self._thread = threading.Thread(
                target=lambda: asyncio.run(self._serve(ready)), name="flokit-simulator", daemon=True
            )
            self._thread.start()
            try:
                self._port = ready.result(timeout=30)
            except BaseException:
                self._thread.join(timeout=5)
                self._thread = None
                raise
        return self

    def stop(self) -> None:
        """Stop serving: open connections are closed, new ones refused; no-op when it has stopped already."""
        if self._thread is not None and self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(timeout=30)
            self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def _serve(self, ready: Future[int]) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_response_prepare.append(self._stamp)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.001)
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        try:
            await runner.setup()
            await web.TCPSite(runner, HOST, self._port, backlog=1024, ssl_context=self._tls).start()
            ready.set_result(int(runner.addresses[0][1]))
            await self._stopping.wait()
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)
        finally:
            await runner.cleanup()

    # Addresses

    @property
    def scheme(self) -> str:
        """``https`` where it has a certificate, else ``http``."""
        return "http" if self._tls is None else "https"

    @property
    def host(self) -> str:
        """The address it listens on, always loopback."""
        return HOST

    @property
    def port(self) -> int:
        """The port it listens on (0 before the first start, if any free one was asked for)."""
        return self._port

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"{self.scheme}://{HOST}:{self._port}"

    @property
    def api_key(self) -> str:
        """The read-write key. Setting it is a rotation."""
        return self._keys.read_write

    @api_key.setter
    def api_key(self, key: str) -> None:
        self._keys.rotate(key)

    @property
    def read_only_key(self) -> str:
        """The read-only key."""
        return self._keys.read_only

    def rotate_key(self, new_key: str | None = None) -> str:
        """
        Replace the read-write key at once and return the new one.

        :param new_key: the new key; by default one that was never used before.
        """
        return self._keys.rotate(new_key)

    # Faults and records

    def fail(
        self,
        fault: Fault | int,
        *,
        method: str | None = None,
        path: str | None = None,
        times: int | None = 1,
        after: int = 0,
    ) -> None:
        """
        Let requests go wrong. Of several faults that match, the one added first is played until it is used
        up.

        :param fault: how; a number is ``Fault.answer(number)``.
        :param method: ``GET`` or ``POST``; default None, any.
        :param path: the path or an ``fnmatch`` pattern of paths; default None, any.
        :param times: how often; default 1, None for until :meth:`clear_faults`.
        :param after: matching requests that are let pass first; default 0.
        """
        fault = Fault.answer(fault) if isinstance(fault, int) else fault
        self._faults.add(fault, method, path, times, after)

    def outage(self) -> None:
        """Drop every request, before all other faults, until :meth:`clear_faults`."""
        self._faults.add(Fault.drop(), None, None, None, 0, first=True)

    def clear_faults(self) -> None:
        """Forget all faults, an outage too."""
        self._faults.clear()

    @property
    def rate_limited(self) -> int:
        """How many requests the rate limit has refused."""
        return self._limiter.refused

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests to the API that were served, dropped ones included, in order."""
        return self._journal.requests()

    def clear_requests(self) -> None:
        """Forget the recorded requests."""
        self._journal.clear()

    def wait_for_requests(self, count: int, timeout: float = 5.0) -> list[RecordedRequest]:
        """
        Wait until that many requests are recorded and return them.

        :param count: how many at least, since the last :meth:`clear_requests`.
        :param timeout: seconds until :class:`TimeoutError`; default 5.
        """
        return self._journal.wait(count, timeout)

    # Serving

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if path.startswith(control.PREFIX):
            return await control.handle(request, self)
        call = api.Call.parse(request.method, path, request.headers, self._keys)
        record = RecordedRequest(
            at=moment(self._clock()),
            method=call.method,
            path=path,
            status=None,
            integration_id=call.integration_id,
            idempotency_key=call.idempotency_key,
            key=call.key,
            headers={name.lower(): value for name, value in request.headers.items() if name.lower() != "authorization"},
        )
        if path.startswith(player.LOOP_PATH):
            code = player.loop_code(path)
            self._journal.settle(None, replace(record, status=code, fault="redirect loop"))
            return player.redirect_on(request, code)
        fault = self._faults.take(call.method, path)
        delay = self.latency
        if fault is not None and fault.action == "slow" and not fault.takes_effect:
            delay, record = delay + fault.seconds, replace(record, fault=fault.name)
            fault = None
        number = None
        if delay > 0:
            number = self._journal.open(record)
            await asyncio.sleep(delay)
            # The key may have died meanwhile.
            call = api.Call.parse(request.method, path, request.headers, self._keys)
            record = replace(record, key=call.key)
        if fault is None:
            answer = api.serve(call, self, self._limiter)
            self._journal.settle(number, replace(record, status=answer.status, note=answer.note))
            return player.honest(answer)
        real = api.serve(call, self, self._limiter) if fault.takes_effect else None
        status, note = player.outcome(fault, real)
        self._journal.settle(number, replace(record, status=status, fault=fault.name, note=note))
        return await player.play(request, fault, real, self.server_time())

    async def _stamp(self, _: web.BaseRequest, response: web.StreamResponse) -> None:
        response.headers["Server"] = "flokit-simulator"
        if self.send_date:
            response.headers["Date"] = http_date(self.server_time())
        else:
            response.headers.popall("Date", None)
