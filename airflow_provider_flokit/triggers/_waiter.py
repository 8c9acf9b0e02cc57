"""One wait's place at the poll of its connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from airflow_provider_flokit.errors import FlokitAPIError, FlokitConfigError, FlokitError
    from airflow_provider_flokit.gate.snapshot import Snapshot
    from airflow_provider_flokit.triggers._poller import Poller


class Waiter:
    """
    One wait's place at a poller; a context manager that leaves the poller at its end.

    :param poller: The poller.
    :param ids: Integration ids that matter to this wait.
    :param types: Integration types that matter to it.
    :param interval: Seconds between polls that it asks for.
    :param every: Whether every answer matters to it, also one in which nothing changed.
    """

    __slots__ = ("_future", "_inbox", "_poller", "every", "ids", "interval", "joined_at", "stale", "types")

    def __init__(
        self,
        poller: Poller,
        ids: tuple[str, ...],
        types: tuple[str, ...],
        interval: float,
        *,
        every: bool = False,
    ) -> None:
        self.every = every
        self.ids = ids
        self.types = types
        self.interval = interval
        self.joined_at = 0.0
        self.stale = False
        self._poller = poller
        self._inbox: Snapshot | FlokitError | None = None
        self._future: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        """Join the poller."""
        self._poller.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the poller."""
        self._poller.remove(self)

    @property
    def trouble(self) -> FlokitAPIError | None:
        """Why the last poll failed; None if it did not."""
        return self._poller.trouble

    @property
    def undefined(self) -> FlokitConfigError | None:
        """That the last poll found no such Airflow connection; None if it did."""
        return self._poller.undefined

    async def next(self, timeout: float) -> Snapshot | FlokitError | None:  # noqa: ASYNC109 - a sleep, not a guard
        """
        Wait for news of this wait's integrations.

        :param timeout: Seconds to wait at most.
        :return: a snapshot (:attr:`stale` then says whether it was asked for before this wait joined); the error that
            ended the poll for good; None if there was no news in time
        """
        if self._inbox is None:
            loop = asyncio.get_running_loop()
            self._future = loop.create_future()
            timer = loop.call_later(max(timeout, 0.0), self._wake)
            try:
                await self._future
            finally:
                timer.cancel()
                self._future = None
        news, self._inbox = self._inbox, None
        return news

    async def refreshed(self, timeout: float) -> Snapshot | FlokitError | None:  # noqa: ASYNC109 - as above
        """
        Get the present state even if nothing changed; a poll before its time serves all that ask for one.

        :param timeout: Seconds to wait at most; failures of the API are sat out that long.
        :return: as :meth:`next`
        """
        if not self._poller.refresh(self, timeout):
            return None
        return await self.next(timeout)

    def deliver(self, news: Snapshot | FlokitError, *, stale: bool = False) -> None:
        """
        Take news and wake up.

        :param news: A snapshot, or the error that ended the poll for good.
        :param stale: Whether the snapshot was asked for before this wait joined.
        """
        self.stale = stale
        self._inbox = news
        self._wake()

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
