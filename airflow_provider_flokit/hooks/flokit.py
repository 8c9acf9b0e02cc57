"""Hooks: access to FloKit's API with the connection's key, for workers and for the triggerer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Self, TypeVar, cast

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_flokit import get_provider_info
from airflow_provider_flokit.api.attempts import in_thread
from airflow_provider_flokit.api.client import Answer, FlokitClient
from airflow_provider_flokit.api.retry import Backoff
from airflow_provider_flokit.api.settings import FlokitSettings
from airflow_provider_flokit.errors import (
    FlokitConnectionNotFoundError,
    FlokitError,
    FlokitNotFoundError,
    FlokitUnreachableError,
    shown,
)
from airflow_provider_flokit.gate.snapshot import Snapshot
from airflow_provider_flokit.gate.words import listed, name_of
from airflow_provider_flokit.hooks._form import widgets
from airflow_provider_flokit.lineage import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Sequence

    from airflow_provider_flokit.gate.wait import Outcome, Wait
    from airflow_provider_flokit.models import Integration

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_LOOK_UP_PATIENCE: Final = 30.0  # seconds for the look-up of a connection in an event loop, where waits have deadlines
_TEST_PATIENCE: Final = 2.0  # seconds that the Test button may pause in all, as a user waits for it


class _ClientHook(BaseHook):
    """What both hooks share: the Airflow connection's id, and the client of that connection."""

    conn_name_attr = "flokit_conn_id"
    default_conn_name = "flokit_default"
    conn_type = "flokit"
    hook_name = "FloKit"

    def __init__(self, flokit_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.flokit_conn_id = flokit_conn_id
        self._client: FlokitClient | None = None

    def _client_for(self, conn: Any) -> FlokitClient:
        """Return the client of an Airflow connection; a new one only if the connection has changed."""
        settings = FlokitSettings.from_connection(self.flokit_conn_id, conn)
        if self._client is None or self._client.settings != settings:
            self._close()
            if settings.warning:
                log.warning("Airflow connection %r: %s", self.flokit_conn_id, settings.warning)
            self._client = FlokitClient(settings)
        return self._client

    def _close(self) -> None:
        if self._client is not None:
            self._client.session.close()

    def _not_found(self, error: Exception) -> FlokitConnectionNotFoundError:
        if not isinstance(error, AirflowNotFoundException):
            return FlokitConnectionNotFoundError(
                f"Airflow connection {self.flokit_conn_id!r} cannot be looked up ({type(error).__name__}). Look at "
                f"Airflow's secrets backend."
            )
        return FlokitConnectionNotFoundError(
            f"Airflow connection {self.flokit_conn_id!r} is not defined. Add it with the type 'flokit' and a FloKit "
            f"API key as password, or name another one with flokit_conn_id. Outside a task, Airflow 3 reads no "
            f"connections from its database."
        )


class FlokitHook(_ClientHook):
    """
    Talk to FloKit from a worker.

    Each call reads the Airflow connection. As long as that is the same, all calls share one HTTP session; as a context
    manager, the hook closes it at the end.

    :param flokit_conn_id: Airflow connection of type ``flokit``: the password is the API key; optional are another
        host and the extras ``timeout`` (seconds, default 30), ``retry_limit`` (attempts after the first, default 4),
        ``verify``, ``proxies`` and ``allow_insecure_http``.
    """

    def __init__(self, flokit_conn_id: str = _ClientHook.default_conn_name) -> None:
        super().__init__(flokit_conn_id)
        self.backoff = Backoff()  # the pause after the last looks, if they failed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def get_conn(self) -> Any:
        """
        Return the ``requests.Session`` with the key, the proxies and ``verify``. It has no base URL and no timeout.

        The key goes to the connection's scheme, host and port only.
        """
        return self._connect().session

    def list_integrations(self) -> list[Integration]:
        """
        List all integrations of the workspace, without ``sync_stats``.

        :raises FlokitError: see :mod:`airflow_provider_flokit.errors`
        """
        return list(self._connect().list().value)

    def get_integration(self, integration_id: str) -> Integration:
        """
        Read one integration, with its ``sync_stats``.

        :param integration_id: E.g. ``int_01hx4j7stripe``.
        :raises FlokitNotFoundError: if there is none with that id
        """
        integration = self._connect().get(integration_id).value
        collect(self, integration.id, changed=False)
        return integration

    def find_integration(self, integration_type: str) -> Integration:
        """
        Find the only integration of a type.

        :param integration_type: E.g. ``stripe``.
        :raises FlokitNotFoundError: if there is none; the message lists the integrations
        :raises FlokitAmbiguousTypeError: if there are several; the message lists their ids
        """
        return _snapshot(self._connect().list()).of_type(str(integration_type), self.flokit_conn_id)

    def trigger_sync(self, integration_id: str, idempotency_key: str | None = None) -> str:
        """
        Start a sync and do not wait for it.

        :param integration_id: E.g. ``int_01hx4j7stripe``.
        :param idempotency_key: Sent as ``Idempotency-Key`` with every attempt. Default: a new one for each call.
        :return: the sync_id; FloKit cannot be asked about it
        :raises FlokitSyncAlreadyRunningError: if a sync is running already (409)
        :raises FlokitPermissionError: if the key is read-only (403)
        """
        return self.start_sync(integration_id, idempotency_key).value

    def test_connection(self) -> tuple[bool, str]:
        """
        List the integrations, for the Test button of Airflow's connection form; all pauses together take 2 s at most.

        :return: ``(True, "Connected: 3 integrations (2 connected, 1 error): int_a (stripe), ...")``, or ``(False, what
            is wrong and what to do)``
        """
        try:
            client = self._connect()
            found = client.list(_TEST_PATIENCE).value
        except FlokitError as error:
            named = f"connection {self.flokit_conn_id!r}"  # Airflow made up the id for the test
            return False, str(error).replace(f" ({named})", "").replace(f"Airflow {named}", "this connection")
        counts = Counter(shown(i.status) for i in found)
        states = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        text = f"Connected: {len(found)} integration{'' if len(found) == 1 else 's'}"
        text += f" ({states}): {listed(map(name_of, found))}" if found else ""
        return True, f"{text}. {client.settings.warning}" if client.settings.warning else text

    def start_sync(self, integration_id: str, idempotency_key: str | None) -> Answer[str]:
        """Start a sync like :meth:`trigger_sync`; also return the server time."""
        started = self._connect().sync(integration_id, idempotency_key)
        collect(self, integration_id, changed=True)
        return started

    def read(self, integration_id: str) -> Answer[Integration]:
        """Read one integration, also return the server time; the error for an unknown id suggests a similar one."""
        client = self._connect()
        try:
            return client.get(integration_id)
        except FlokitNotFoundError:
            snapshot = _snapshot(client.list())
        return Answer(snapshot.of_id(integration_id, self.flokit_conn_id), snapshot.at)

    def statistics(self, integration_id: str) -> Integration | None:
        """Read an integration once for its statistics; return None and warn if that fails."""
        try:
            return self._connect().get(integration_id, patience=0).value
        except FlokitError as error:
            self.log.warning("The statistics of %s are not known: %s", integration_id, error)
            return None

    def observe(self, ids: Collection[str]) -> Snapshot:
        """Take one look at the workspace; an id that is not in the list is read alone before it counts as missing."""
        client = self._connect()
        snapshot = _snapshot(client.list(patience=0))
        until, found = time.monotonic() + client.settings.timeout, {}  # for all single reads together
        for i in ids:
            if i not in snapshot.integrations:
                late = time.monotonic() > until
                found[i] = not_in_time(i, self.flokit_conn_id) if late else _read_singly(client, i)
        return snapshot.with_singles(found)

    def ask(self, wait: Wait, *, last: bool = False) -> Outcome | None:
        """Take one look for a wait (``last``: at its deadline); return the outcome if the wait is over."""
        if time.monotonic() < self.backoff.asked_until:
            return None
        try:
            snapshot = self.observe(wait.conditions.ids)
        except FlokitError as error:
            self.backoff.add(error)
            return wait.trouble(error)
        self.backoff = Backoff()
        return wait.look(snapshot, last=last)

    def wait_for(self, wait: Wait, interval: Callable[[float], float]) -> Outcome:
        """Wait in this process; ``interval`` takes the seconds that the wait has lasted, and returns those to pause."""
        while True:
            now = time.monotonic()
            if now >= wait.deadline:
                return self.ask(wait, last=True) or wait.timed_out()
            if (outcome := self.ask(wait)) is not None:
                return outcome
            wait.answered = True  # from the second look on
            wait.heartbeat()
            now = time.monotonic()
            next_at = max(now + interval(now - wait.begun), self.backoff.next_at)
            time.sleep(max(min(next_at, wait.deadline) - now, 0.0))

    def _connect(self) -> FlokitClient:
        """Return the client of the Airflow connection as it is now."""
        try:
            conn = self.get_connection(self.flokit_conn_id)
        except Exception as error:  # a secrets backend may raise anything
            raise self._not_found(error) from None
        return self._client_for(conn)

    # Airflow before 3.2 gets the form from this class itself, not from its base classes.

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the connection form's labels."""
        behaviour = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
        return {name.replace("-", "_"): item for name, item in behaviour.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the connection form's extra fields."""
        return widgets()


class _ThreadHook(FlokitHook):
    """What the calls of an event loop run in their threads: the loop has made its client, or knows why it has none."""

    def __init__(self, flokit_conn_id: str, made: FlokitClient | FlokitError) -> None:
        super().__init__(flokit_conn_id)
        self.made = made

    def _connect(self) -> FlokitClient:
        if isinstance(self.made, FlokitError):
            raise self.made
        return self.made


def _awaitable(
    method: Callable[Concatenate[FlokitHook, P], T],
) -> Callable[Concatenate[FlokitAsyncHook, P], Coroutine[Any, Any, T]]:
    """Return the asynchronous hook's form of a method."""

    @wraps(method)
    async def call(self: FlokitAsyncHook, /, *args: P.args, **kwargs: P.kwargs) -> T:
        made, hook = await self._look_up(), self._inner
        if hook is None or hook.made is not made:  # a new one for each call would be new to lineage too
            hook = self._inner = _ThreadHook(self.flokit_conn_id, made)
        return await in_thread(lambda: method(hook, *args, **kwargs), self.flokit_conn_id)

    return call


class FlokitAsyncHook(_ClientHook):
    """
    Talk to FloKit from an event loop: the same calls as :class:`FlokitHook`, awaitable.

    Each call runs in its own daemon thread. So a slow call does not block other calls or the end of the process. A call
    that nobody awaits any more sends no further attempt. The HTTP session is shared and closed as with the other hook.

    :param flokit_conn_id: Airflow connection of type ``flokit``, as for :class:`FlokitHook`.
    """

    _inner: _ThreadHook | None = None

    list_integrations = _awaitable(FlokitHook.list_integrations)
    get_integration = _awaitable(FlokitHook.get_integration)
    find_integration = _awaitable(FlokitHook.find_integration)
    trigger_sync = _awaitable(FlokitHook.trigger_sync)
    test_connection = _awaitable(FlokitHook.test_connection)
    observe = _awaitable(FlokitHook.observe)

    async def read_singly(self, integration_id: str) -> Integration | FlokitError:
        """Read an integration, once and with the connection of the call before; return it, or the error."""
        client = cast("FlokitClient", self._client)
        return await in_thread(lambda: _read_singly(client, integration_id), self.flokit_conn_id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()

    async def _look_up(self) -> FlokitClient | FlokitError:
        """Return the client of the Airflow connection as it is now, or the error that there is none."""
        from airflow.providers.common.compat.connection import get_async_connection

        try:
            async with asyncio.timeout(_LOOK_UP_PATIENCE):
                return self._client_for(await get_async_connection(self.flokit_conn_id, hook=self))
        except FlokitError as error:
            return error
        except Exception as error:  # a secrets backend may raise anything
            return self._not_found(error)


def _read_singly(client: FlokitClient, integration_id: str) -> Integration | FlokitError:
    try:
        return client.get(integration_id, patience=0).value
    except FlokitError as error:
        return error


def not_in_time(integration_id: str, conn_id: str) -> FlokitUnreachableError:
    """Return the error for an integration that was not read because other single reads took too long."""
    return FlokitUnreachableError(
        f"FloKit, reading {integration_id} (connection {conn_id!r}): not read in time. It is not in FloKit's list: "
        f"check its id, and FloKit's status."
    )


def _snapshot(answer: Answer[Sequence[Integration]]) -> Snapshot:
    return Snapshot(answer.at, {i.id: i for i in answer.value}, malformed=answer.malformed)
