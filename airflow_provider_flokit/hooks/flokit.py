"""Hooks: authenticated access to FloKit's API, for workers (requests) and for the triggerer (aiohttp)."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_flokit import get_provider_info
from airflow_provider_flokit.api import FlokitAPI, LastList
from airflow_provider_flokit.connection import CONN_TYPE, DEFAULT_CONN_ID, FlokitConnection
from airflow_provider_flokit.errors import FlokitConfigError
from airflow_provider_flokit.hooks._settings import checked, mask, undefined
from airflow_provider_flokit.hooks._test_button import failure_message, success_message
from airflow_provider_flokit.identifiers import connection_id
from airflow_provider_flokit.lineage import collect
from airflow_provider_flokit.snapshot import Snapshot
from airflow_provider_flokit.steps import Pause, Reload, Send

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime
    from types import TracebackType

    from airflow_provider_flokit.models import Integration
    from airflow_provider_flokit.steps import Call
    from airflow_provider_flokit.transport import AiohttpTransport, RequestsTransport

T = TypeVar("T")


class FlokitHook(BaseHook):
    """
    Talk to FloKit from a worker.

    Used as a context manager, all calls share one HTTP session; otherwise each call opens and closes its own.

    :param flokit_conn_id: Airflow connection of type ``flokit``: the API key in the password, optionally another
        host, and the extras ``timeout`` (seconds per request, default 30), ``retry_limit`` (attempts after the first,
        default 4), ``verify``, ``proxies`` and ``allow_insecure_http``.
    """

    conn_name_attr = "flokit_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONN_TYPE
    hook_name = "FloKit"

    def __init__(self, flokit_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.flokit_conn_id = connection_id(flokit_conn_id)
        self._connection: FlokitConnection | None = None
        self._transport: RequestsTransport | None = None
        self._entered = False

    def __enter__(self) -> Self:
        """Keep one HTTP session until the end of the block."""
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the HTTP session."""
        self._entered = False
        self._close()

    def list_integrations(self) -> list[Integration]:
        """
        List all integrations of the workspace, without ``sync_stats``.

        :raises FlokitError: see :mod:`airflow_provider_flokit.errors`
        """
        return self._run(lambda api: api.list_integrations())

    def get_integration(self, integration_id: str) -> Integration:
        """
        Read one integration, with its ``sync_stats``.

        :param integration_id: E.g. ``int_01hx4j7stripe``.
        :raises FlokitNotFoundError: if there is none with that id
        """
        integration = self._run(lambda api: api.get_integration(integration_id))
        collect(self, integration.id, changed=False)
        return integration

    def find_integration(self, integration_type: str) -> Integration:
        """
        Find the one integration of a type.

        :param integration_type: E.g. ``stripe``.
        :raises FlokitNotFoundError: if there is none, listing what there is
        :raises FlokitAmbiguousTypeError: if there are several, listing their ids
        """
        return self._run(lambda api: api.find(integration_type))[1]

    def trigger_sync(self, integration_id: str, idempotency_key: str | None = None) -> str:
        """
        Start a sync; it then runs on its own.

        :param integration_id: E.g. ``int_01hx4j7stripe``.
        :param idempotency_key: Sent as ``Idempotency-Key`` with every attempt. Default: one made up for this call.
        :return: the sync_id; FloKit cannot be asked about it
        :raises FlokitSyncAlreadyRunningError: if a sync is running already (409)
        :raises FlokitPermissionError: if the key is read-only (403)
        """
        return self.start_sync(integration_id, idempotency_key)[0]

    def test_connection(self) -> tuple[bool, str]:
        """
        List the integrations once, as the Test button of Airflow's connection form does.

        :return: ``(True, "Connected: 3 integrations (2 connected, 1 error)")``, or ``(False, what is wrong and what
            to do about it)``
        """
        try:
            return True, success_message(self.observe(()).integrations.values())
        except Exception as error:  # noqa: BLE001 - the form shows the message, whatever went wrong
            return False, failure_message(error, self.flokit_conn_id)

    def start_sync(self, integration_id: str, idempotency_key: str | None) -> tuple[str, datetime]:
        """
        Start a sync, as :meth:`trigger_sync`; also tell the server's time.

        :param integration_id: E.g. ``int_01hx4j7stripe``.
        :param idempotency_key: Sent with every attempt.
        :return: the sync_id and the server time of the answer
        """
        started = self._run(lambda api: api.trigger_sync(integration_id, idempotency_key))
        collect(self, integration_id, changed=True)
        return started

    def read(self, *, integration_id: str | None = None, integration_type: str | None = None) -> Snapshot:
        """
        Read one integration and the server's time.

        :param integration_id: Its id, or
        :param integration_type: its type, which only one may have.
        :return: a snapshot that holds that integration alone
        """
        if integration_id is not None:
            return self._run(lambda api: api.read(integration_id))
        snapshot, integration = self._run(lambda api: api.find(str(integration_type)))
        return Snapshot(snapshot.at, {integration.id: integration})

    def observe(self, ids: Collection[str], *, retries: int = 0, patience: float | None = None) -> Snapshot:
        """
        Take one look at the workspace, as a wait does again and again.

        A 401 re-reads the Airflow connection once before it is final, as the key may have been rotated.

        :param ids: Ids that the snapshot has to hold, or to call missing.
        :param retries: Attempts after the first.
        :param patience: Seconds after which no further attempt is made; None for no limit.
        """
        return self._run(lambda api: api.observe(ids, retries=retries, patience=patience))

    def read_unlisted(self, integration_id: str) -> Snapshot:
        """
        Read one integration, once.

        :param integration_id: Its id.
        :return: a snapshot that tells what it is, that it is missing, or why it could not be read
        """
        return self._run(lambda api: api.read_unlisted(integration_id))

    @property
    def retry_limit(self) -> int:
        """Attempts per request after the first, as the connection says."""
        return self._settings().retry_limit

    def _run(self, start: Callable[[FlokitAPI], Call[T]]) -> T:
        call = start(FlokitAPI(self._settings()))
        try:
            step = next(call)
            while True:
                failure, result = None, None
                try:
                    result = self._perform(step)
                except Exception as error:  # noqa: BLE001 - the call decides what a failed step means
                    failure = error
                # Outside of the handler, so that the failed step is no context of what the call raises.
                step = call.send(result) if failure is None else call.throw(failure)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            call.close()
            if not self._entered:
                self._close()

    def _perform(self, step: Send | Pause | Reload) -> Any:
        match step:
            case Send():
                if self._transport is None:
                    from airflow_provider_flokit.transport import RequestsTransport

                    self._transport = RequestsTransport(self._settings())
                return self._transport.send(step)
            case Pause(seconds, reason):
                self.log.warning("%s Trying again in %.1f s.", reason, seconds)
                time.sleep(seconds)
                return None
            case Reload():
                self._close()
                self._connection = None
                return self._settings()

    def _settings(self) -> FlokitConnection:
        if self._connection is None:
            found = self._looked_up()
            if isinstance(found, FlokitConfigError):
                raise found
            mask(found)
            self._connection = found
        return self._connection

    def _looked_up(self) -> FlokitConnection | FlokitConfigError:
        try:
            conn = self.get_connection(self.flokit_conn_id)
        except AirflowNotFoundException:
            return undefined(self.flokit_conn_id)
        with suppress(Exception):
            conn.extra_dejson  # noqa: B018 - registers what is secret in it for masking
        return checked(self.flokit_conn_id, conn)

    def _close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the connection form's labels, for Airflow before 3.2; later ones read the provider's metadata."""
        behaviour = _form()["ui-field-behaviour"]
        return {
            "hidden_fields": behaviour["hidden-fields"],
            "relabeling": behaviour["relabeling"],
            "placeholders": behaviour["placeholders"],
        }

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the connection form's extra fields, for Airflow before 3.2; later ones read the metadata."""
        from airflow_provider_flokit.hooks._form_widgets import widgets

        return widgets(_form()["conn-fields"])


class FlokitAsyncHook(BaseHook):
    """
    Talk to FloKit from an event loop: the same calls as :class:`FlokitHook`, awaitable.

    Used as an asynchronous context manager, all calls share one HTTP session; otherwise each call opens and closes
    its own.

    :param flokit_conn_id: Airflow connection of type ``flokit``, as for :class:`FlokitHook`.
    """

    conn_name_attr = "flokit_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONN_TYPE
    hook_name = "FloKit"

    def __init__(self, flokit_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.flokit_conn_id = connection_id(flokit_conn_id)
        self._connection: FlokitConnection | None = None
        self._transport: AiohttpTransport | None = None
        self._entered = False
        self._opening = asyncio.Lock()
        self._calls = 0  # under way
        self._last = LastList()

    async def __aenter__(self) -> Self:
        """Keep one HTTP session until the end of the block."""
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the HTTP session."""
        self._entered = False
        await self._close()

    async def list_integrations(self) -> list[Integration]:
        """List all integrations, see :meth:`FlokitHook.list_integrations`."""
        return await self._run(lambda api: api.list_integrations())

    async def get_integration(self, integration_id: str) -> Integration:
        """Read one integration, see :meth:`FlokitHook.get_integration`."""
        integration = await self._run(lambda api: api.get_integration(integration_id))
        collect(self, integration.id, changed=False)
        return integration

    async def find_integration(self, integration_type: str) -> Integration:
        """Find the one integration of a type, see :meth:`FlokitHook.find_integration`."""
        return (await self._run(lambda api: api.find(integration_type)))[1]

    async def trigger_sync(self, integration_id: str, idempotency_key: str | None = None) -> str:
        """Start a sync, see :meth:`FlokitHook.trigger_sync`."""
        sync_id, _ = await self._run(lambda api: api.trigger_sync(integration_id, idempotency_key))
        collect(self, integration_id, changed=True)
        return sync_id

    async def test_connection(self) -> tuple[bool, str]:
        """List the integrations once, see :meth:`FlokitHook.test_connection`."""
        try:
            return True, success_message((await self.observe(())).integrations.values())
        except Exception as error:  # noqa: BLE001 - the form shows the message, whatever went wrong
            return False, failure_message(error, self.flokit_conn_id)

    async def observe(self, ids: Collection[str], *, retries: int = 0, patience: float | None = None) -> Snapshot:
        """Take one look at the workspace, see :meth:`FlokitHook.observe`."""
        return await self._run(lambda api: api.observe(ids, retries=retries, patience=patience))

    async def renew(self) -> None:
        """Re-read the Airflow connection; if it has changed, the next request is sent by the new one."""
        found = await self._read_settings()
        if found != self._connection:
            self._connection = found
            self._last = LastList()
            await self._close()

    async def read_unlisted(self, integration_id: str) -> Snapshot:
        """Read one integration, once, see :meth:`FlokitHook.read_unlisted`."""
        return await self._run(lambda api: api.read_unlisted(integration_id))

    async def _run(self, start: Callable[[FlokitAPI], Call[T]]) -> T:
        self._calls += 1
        try:
            return await self._performed(start(FlokitAPI(await self._settings(), self._last)))
        finally:
            self._calls -= 1
            # Calls at the same time share the session: the last one closes it.
            if not self._entered and not self._calls:
                await self._close()

    async def _performed(self, call: Call[T]) -> T:
        try:
            step = next(call)
            while True:
                failure, result = None, None
                try:
                    result = await self._perform(step)
                except Exception as error:  # noqa: BLE001 - the call decides what a failed step means
                    failure = error
                # Outside of the handler, so that the failed step is no context of what the call raises.
                step = call.send(result) if failure is None else call.throw(failure)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            call.close()

    async def _perform(self, step: Send | Pause | Reload) -> Any:
        match step:
            case Send():
                return await (await self._open()).send(step)
            case Pause(seconds, reason):
                self.log.warning("%s Trying again in %.1f s.", reason, seconds)
                await asyncio.sleep(seconds)
                return None
            case Reload():
                await self._close()
                self._connection = None
                return await self._settings()

    async def _open(self) -> AiohttpTransport:
        async with self._opening:
            if self._transport is None:
                from airflow_provider_flokit.transport import AiohttpTransport

                self._transport = await AiohttpTransport.open(await self._settings())
            return self._transport

    async def _settings(self) -> FlokitConnection:
        if self._connection is None:
            self._connection = await self._read_settings()
        return self._connection

    async def _read_settings(self) -> FlokitConnection:
        found = await self._looked_up()
        if isinstance(found, FlokitConfigError):
            raise found
        if found.proxies:
            await asyncio.to_thread(mask, found)
        return found

    async def _looked_up(self) -> FlokitConnection | FlokitConfigError:
        from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

        try:
            conn = await get_async_connection(self.flokit_conn_id, hook=self)
        except AirflowNotFoundException:
            return undefined(self.flokit_conn_id)
        with suppress(Exception):
            await get_async_extra_dejson(conn)  # registers what is secret in it for masking
        return checked(self.flokit_conn_id, conn)

    async def _close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()


def _form() -> dict[str, Any]:
    form: dict[str, Any] = get_provider_info()["connection-types"][0]
    return form
