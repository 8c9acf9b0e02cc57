"""Hooks: access to FloKit's API with the connection's key, for workers and for the triggerer."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_flokit.api.attempts import Attempts, in_thread
from airflow_provider_flokit.api.client import Answer, FlokitClient
from airflow_provider_flokit.api.retry import Backoff
from airflow_provider_flokit.api.settings import FlokitSettings
from airflow_provider_flokit.errors import FlokitConnectionNotFoundError, FlokitError
from airflow_provider_flokit.hooks import _form
from airflow_provider_flokit.hooks._calls import connected, find, not_connected, observe, read_one, read_singly
from airflow_provider_flokit.lineage import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from airflow_provider_flokit.gate.snapshot import Snapshot
    from airflow_provider_flokit.gate.wait import Outcome, Wait
    from airflow_provider_flokit.models import Integration

log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK_UP_PATIENCE: Final = 30.0
"""Seconds that Airflow may take to look up a connection for an event loop, where waits have deadlines."""

_TEST_PATIENCE: Final = 2.0  # seconds that the Test button may pause in all, as a user waits for it


class _ClientHook(BaseHook):
    """What both hooks share: the connection's id, and a client that lives as long as the block or the call."""

    conn_name_attr = "flokit_conn_id"
    default_conn_name = "flokit_default"
    conn_type = "flokit"
    hook_name = "FloKit"

    def __init__(self, flokit_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.flokit_conn_id = flokit_conn_id
        self._client: FlokitClient | None = None
        self._in_block = False

    def _client_for(self, conn: Any) -> FlokitClient:
        """Return the block's client; or a new one, if there is none or the Airflow connection has changed."""
        settings = FlokitSettings.from_connection(self.flokit_conn_id, conn)
        if self._client is not None and self._client.settings == settings:
            return self._client
        self._close()
        if settings.warning:
            log.warning("Airflow connection %r: %s", self.flokit_conn_id, settings.warning)
        client = FlokitClient(settings)
        if self._in_block:
            self._client = client
        return client

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

    def _release(self, client: FlokitClient) -> None:
        if client is not self._client:
            client.close()

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


class FlokitHook(_ClientHook):
    """
    Talk to FloKit from a worker.

    As a context manager, all calls share one HTTP session; otherwise each call opens and closes its own.

    :param flokit_conn_id: Airflow connection of type ``flokit``: the password is the API key; optional are another
        host and the extras ``timeout`` (seconds, default 30), ``retry_limit`` (attempts after the first, default 4),
        ``verify``, ``proxies`` and ``allow_insecure_http``.
    """

    def __init__(self, flokit_conn_id: str = _ClientHook.default_conn_name) -> None:
        super().__init__(flokit_conn_id)
        self.backoff = Backoff()
        """The pause after the last looks, if they failed."""

    def __enter__(self) -> Self:
        """Keep one HTTP session until the end of the block."""
        self._in_block = True
        return self

    def __exit__(self, *_: object) -> None:
        """Close the HTTP session."""
        self._in_block = False
        self._close()

    def get_conn(self) -> Any:
        """
        Return the ``requests.Session`` with the key, the proxies and ``verify``. It has no base URL and no timeout.

        The key goes to the connection's scheme, host and port only.
        """
        return (self._client or self._client_for(self._read_connection())).session

    def list_integrations(self) -> list[Integration]:
        """
        List all integrations of the workspace, without ``sync_stats``.

        :raises FlokitError: see :mod:`airflow_provider_flokit.errors`
        """
        return list(self._call(FlokitClient.list).value)

    def get_integration(self, integration_id: str) -> Integration:
        """
        Read one integration, with its ``sync_stats``.

        :param integration_id: E.g. ``int_01hx4j7stripe``.
        :raises FlokitNotFoundError: if there is none with that id
        """
        integration = self._call(FlokitClient.get, integration_id).value
        collect(self, integration.id, changed=False)
        return integration

    def find_integration(self, integration_type: str) -> Integration:
        """
        Find the only integration of a type.

        :param integration_type: E.g. ``stripe``.
        :raises FlokitNotFoundError: if there is none; the message lists the integrations
        :raises FlokitAmbiguousTypeError: if there are several; the message lists their ids
        """
        return self._call(find, integration_type)

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
            return True, self._call(connected, attempts=Attempts(patience=_TEST_PATIENCE))
        except FlokitError as error:
            return False, not_connected(error, self.flokit_conn_id)

    def start_sync(self, integration_id: str, idempotency_key: str | None) -> Answer[str]:
        """Start a sync like :meth:`trigger_sync`; also return the server time."""
        started = self._call(FlokitClient.sync, integration_id, idempotency_key)
        collect(self, integration_id, changed=True)
        return started

    def read(self, integration_id: str) -> Answer[Integration]:
        """Read one integration; also return the server time."""
        return self._call(read_one, integration_id)

    def statistics(self, integration_id: str) -> Integration | None:
        """Read an integration once for its statistics; return None and warn if that fails."""
        try:
            return self._call(FlokitClient.get, integration_id, attempts=Attempts(retries=0)).value
        except FlokitError as error:
            self.log.warning("The statistics of %s are not known: %s", integration_id, error)
            return None

    def observe(self, ids: Collection[str]) -> Snapshot:
        """Take one look at the workspace, with the Airflow connection read anew."""
        return self._call(observe, ids, attempts=Attempts(retries=0), renew=True)

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
        """
        Wait in this process, with repeated looks.

        :param wait: The wait.
        :param interval: Takes the seconds that the wait has lasted, returns the seconds until the next look.
        """
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

    def _call(self, call: Callable[..., T], *args: Any, attempts: Attempts | None = None, renew: bool = False) -> T:
        client = self._client if self._client and not renew else self._client_for(self._read_connection())
        try:
            return call(client, *args, attempts or Attempts())
        finally:
            self._release(client)

    def _read_connection(self) -> Any:
        try:
            return self.get_connection(self.flokit_conn_id)
        except Exception as error:  # a secrets backend may raise anything
            raise self._not_found(error) from None

    # Airflow before 3.2 gets the form from this class itself, not from its base classes.

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the connection form's labels from the provider's metadata."""
        return _form.labels()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the connection form's extra fields from the provider's metadata."""
        return _form.widgets()


class FlokitAsyncHook(_ClientHook):
    """
    Talk to FloKit from an event loop: the same calls as :class:`FlokitHook`, awaitable.

    Each call runs in its own daemon thread. So a slow call does not block other calls or the end of the process. A call
    that nobody awaits any more sends no further attempt.

    As an asynchronous context manager, all calls share one HTTP session; otherwise each call opens and closes its own.

    :param flokit_conn_id: Airflow connection of type ``flokit``, as for :class:`FlokitHook`.
    """

    async def __aenter__(self) -> Self:
        """Keep one HTTP session until the end of the block."""
        self._in_block = True
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the HTTP session."""
        self._in_block = False
        self._close()

    async def list_integrations(self) -> list[Integration]:
        """List all integrations, see :meth:`FlokitHook.list_integrations`."""
        return list((await self._call(FlokitClient.list)).value)

    async def get_integration(self, integration_id: str) -> Integration:
        """Read one integration, see :meth:`FlokitHook.get_integration`."""
        integration = (await self._call(FlokitClient.get, integration_id)).value
        collect(self, integration.id, changed=False)
        return integration

    async def find_integration(self, integration_type: str) -> Integration:
        """Find the only integration of a type, see :meth:`FlokitHook.find_integration`."""
        return await self._call(find, integration_type)

    async def trigger_sync(self, integration_id: str, idempotency_key: str | None = None) -> str:
        """Start a sync, see :meth:`FlokitHook.trigger_sync`."""
        sync_id = (await self._call(FlokitClient.sync, integration_id, idempotency_key)).value
        collect(self, integration_id, changed=True)
        return sync_id

    async def test_connection(self) -> tuple[bool, str]:
        """List the integrations, see :meth:`FlokitHook.test_connection`."""
        try:
            return True, await self._call(connected, attempts=Attempts(patience=_TEST_PATIENCE))
        except FlokitError as error:
            return False, not_connected(error, self.flokit_conn_id)

    async def observe(self, ids: Collection[str]) -> Snapshot:
        """Take one look at the workspace, see :meth:`FlokitHook.observe`."""
        return await self._call(observe, ids, attempts=Attempts(retries=0), renew=True)

    async def read_singly(self, integration_id: str) -> Integration | FlokitError | None:
        """Read one integration, with one attempt; return it, None if there is none, or the error."""
        return await self._call(read_singly, integration_id, attempts=Attempts(retries=0))

    async def _call(
        self, call: Callable[..., T], *args: Any, attempts: Attempts | None = None, renew: bool = False
    ) -> T:
        client = self._client if self._client and not renew else self._client_for(await self._read_connection())
        each = attempts or Attempts()
        try:
            return await in_thread(lambda: call(client, *args, each), each, self.flokit_conn_id)
        finally:
            self._release(client)

    async def _read_connection(self) -> Any:
        from airflow.providers.common.compat.connection import get_async_connection

        try:
            async with asyncio.timeout(_LOOK_UP_PATIENCE):
                return await get_async_connection(self.flokit_conn_id, hook=self)
        except Exception as error:  # a secrets backend may raise anything
            raise self._not_found(error) from None
