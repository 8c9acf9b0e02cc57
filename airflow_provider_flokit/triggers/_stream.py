"""
The shared stream of Airflow 3.3 and later: one poll for all watchers of a connection, in ack mode.

Airflow says in :meth:`WorkspaceStream.advance` when the events that the watchers made of an answer are in its
database. Only then is what they have seen saved: saved earlier, an event is lost with the triggerer; later, repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow.triggers.shared_stream import SharedStreamProducer

from airflow_provider_flokit.triggers._watcher import answers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from airflow.triggers.shared_stream import AdvanceItem

    from airflow_provider_flokit.events import Memory
    from airflow_provider_flokit.gate.snapshot import Snapshot
    from airflow_provider_flokit.triggers._watcher import Watcher


@dataclass(slots=True)
class Delivery:
    """
    One answer on its way through the watchers.

    :param number: Its place in the stream.
    :param snapshot: The answer.
    :param saves: What each watcher wants saved once its events are safe.
    """

    number: int
    snapshot: Snapshot
    saves: list[tuple[Watcher, Memory]] = field(default_factory=list)


class WorkspaceStream(SharedStreamProducer):
    """
    Brings every answer of the shared poll to all watchers, also one in which nothing changed: a watcher that joined
    late, or could not save, catches up by it.

    :param conn_id: The Airflow connection.
    :param interval: Seconds between polls.
    """

    def __init__(self, conn_id: str, interval: float) -> None:
        self._conn_id = conn_id
        self._interval = interval
        self._sent = 0
        # By watcher: the deliveries up to this one save nothing for it.
        self._doubted: WeakKeyDictionary[Watcher, int] = WeakKeyDictionary()

    async def open_stream(self) -> AsyncIterator[tuple[Delivery, Delivery]]:
        """Yield each answer, as the event and as what :meth:`advance` will get back."""
        async for snapshot in answers(self._conn_id, self._interval):
            self._sent += 1
            delivery = Delivery(self._sent, snapshot)
            yield delivery, delivery

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """
        Save what the watchers have seen.

        A watcher may have failed on an answer, its events stored or not: then none of the watchers that had something
        to save is saved from the answers under way. Whoever goes on wants it saved with the next answer again.

        :param batch: Answers that all watchers are done with, in order.
        """
        latest: dict[Watcher, Memory] = {}
        for delivery, outcome in batch:
            for watcher, memory in delivery.saves:
                if not outcome.is_clean:
                    self._doubted[watcher] = self._sent
                    latest.pop(watcher, None)
                elif delivery.number > self._doubted.get(watcher, 0):
                    latest[watcher] = memory
        for watcher, memory in latest.items():
            # If the store is away, each would wait for it; the next answer tries again.
            if not await watcher.save(memory):
                return
