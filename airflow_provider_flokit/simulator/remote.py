"""A simulator in another process, driven through its control endpoints. Standard library only."""

from __future__ import annotations

import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Unpack
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from airflow_provider_flokit.simulator.connection import Connectable
from airflow_provider_flokit.simulator.faults import Fault
from airflow_provider_flokit.simulator.records import (
    IntegrationState,
    RecordedRequest,
    Sync,
    SyncRun,
    times_parsed,
    to_jsonable,
)
from airflow_provider_flokit.simulator.switches import SwitchBoard, Switches, SwitchValues

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_flokit.simulator.registry import IntegrationFields


class RemoteSimulator(SwitchBoard, Connectable):
    """
    The same methods and attributes as :class:`~airflow_provider_flokit.simulator.server.Simulator`, over
    HTTP.

    Where that one raises, so does this one: :class:`KeyError` for an unknown id, :class:`ValueError` for
    wrong values.

    :param url: its base URL, such as ``http://127.0.0.1:8765``.
    :param timeout: seconds per call; default 10.
    """

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._opener = build_opener(ProxyHandler({}))  # loopback is never behind a proxy

    def _call(self, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
        body = None if arguments is None else json.dumps(to_jsonable(arguments)).encode()
        request = Request(f"{self.url}/_simulator/{name}", body, {"Content-Type": "application/json"})  # noqa: S310 - the URL is the user's own
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                return json.load(answer)
        except HTTPError as error:
            with error:
                message = json.load(error).get("message", "")
            raise (KeyError if error.code == HTTPStatus.NOT_FOUND else ValueError)(message) from None

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return urlsplit(self.url).scheme

    @property
    def host(self) -> str:
        """The address it listens on."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port it listens on."""
        return urlsplit(self.url).port or 80

    @property
    def api_key(self) -> str:
        """The read-write key."""
        return str(self._call("state")["api_key"])

    @property
    def read_only_key(self) -> str:
        """The read-only key."""
        return str(self._call("state")["read_only_key"])

    def rotate_key(self, new_key: str | None = None) -> str:
        """Replace the read-write key at once and return the new one."""
        return str(self._call("rotate_key", {"new_key": new_key}))

    @property
    def switches(self) -> Switches:
        """All switches as they stand."""
        return Switches(**self._call("state")["switches"])

    def configure(self, **switches: Unpack[SwitchValues]) -> None:
        """Set several switches at once."""
        self.set_switches(dict(switches))

    def set_switches(self, values: dict[str, Any]) -> None:
        """Set switches by name; :meth:`configure` is the typed form."""
        self._call("configure", values)

    def add_integration(
        self,
        integration_id: str,
        type: str = "stripe",  # noqa: A002 - the field is called so
        **fields: Unpack[IntegrationFields],
    ) -> IntegrationState:
        """Add an integration and return its state."""
        return _integration(self._call("add_integration", {"integration_id": integration_id, "type": type, **fields}))

    def set_state(self, integration_id: str, **fields: Any) -> IntegrationState:
        """Set fields of an integration at once and return its state."""
        return _integration(self._call("set_state", {"integration_id": integration_id, **fields}))

    def remove_integration(self, integration_id: str) -> None:
        """Remove an integration; from now on its id is unknown."""
        self._call("remove_integration", {"integration_id": integration_id})

    def integration(self, integration_id: str) -> IntegrationState:
        """Return how an integration looks now, without that counting as a read."""
        return _integration(self._call("integration", {"integration_id": integration_id}))

    @property
    def integrations(self) -> list[IntegrationState]:
        """How all integrations look now, without that counting as a read."""
        return [_integration(document) for document in self._call("state")["integrations"]]

    @property
    def syncs(self) -> list[SyncRun]:
        """Every sync that was asked for, in that order, as far as it has come."""
        return [SyncRun(**times_parsed(document)) for document in self._call("syncs")]

    def plan(self, integration_id: str, *syncs: Sync) -> None:
        """Say how the next syncs triggered by POST go."""
        self._call("plan", {"integration_id": integration_id, "syncs": syncs})

    def run_scheduled_sync(self, integration_id: str, sync: Sync | None = None) -> SyncRun:
        """Start one of FloKit's own syncs now."""
        arguments = {"integration_id": integration_id, "sync": sync}
        return SyncRun(**times_parsed(self._call("run_scheduled_sync", arguments)))

    def script(self, integration_id: str, states: Sequence[Mapping[str, Any]]) -> None:
        """Let each further read show the next state; the last one stays."""
        self._call("script", {"integration_id": integration_id, "states": states})

    def script_after_sync(self, integration_id: str, states: Sequence[Mapping[str, Any]]) -> None:
        """Like :meth:`script`, from the first read after the next POST."""
        self._call("script_after_sync", {"integration_id": integration_id, "states": states})

    def fail(
        self,
        fault: Fault | int,
        *,
        method: str | None = None,
        path: str | None = None,
        times: int | None = 1,
        after: int = 0,
    ) -> None:
        """Let requests go wrong."""
        fault = Fault.answer(fault) if isinstance(fault, int) else fault
        self._call("fail", {"fault": fault, "method": method, "path": path, "times": times, "after": after})

    def outage(self) -> None:
        """Drop every request until :meth:`clear_faults`."""
        self._call("outage", {})

    def clear_faults(self) -> None:
        """Forget all faults, an outage too."""
        self._call("clear_faults", {})

    @property
    def rate_limited(self) -> int:
        """How many requests the rate limit has refused."""
        return int(self._call("state")["rate_limited"])

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests to the API that were served, dropped ones included, in order."""
        return [RecordedRequest(**times_parsed(document)) for document in self._call("requests")]

    def clear_requests(self) -> None:
        """Forget the recorded requests."""
        self._call("clear_requests", {})

    def wait_for_requests(self, count: int, timeout: float = 5.0) -> list[RecordedRequest]:
        """Wait until that many requests are recorded and return them (or :class:`TimeoutError`)."""
        deadline = time.monotonic() + timeout
        while len(requests := self.requests) < count:
            if time.monotonic() > deadline:
                msg = f"{len(requests)} of {count} requests came within {timeout:g} s"
                raise TimeoutError(msg)
            time.sleep(0.02)
        return requests


def _integration(document: Mapping[str, Any]) -> IntegrationState:
    return IntegrationState(**times_parsed(document))
