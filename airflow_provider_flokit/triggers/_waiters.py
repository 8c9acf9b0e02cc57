"""Who waits at the poll of a connection, and whom a change concerns."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from airflow_provider_flokit.gate.snapshot import Snapshot
    from airflow_provider_flokit.triggers._waiter import Waiter


class Waiters:
    """The waiters of one poller, found by what matters to them; false if there are none."""

    def __init__(self) -> None:
        # Dicts for sets: they keep the order in which the waiters joined.
        self._by_id: dict[str, dict[Waiter, None]] = {}
        self._by_type: dict[str, dict[Waiter, None]] = {}
        self._every: dict[Waiter, None] = {}
        self._intervals: Counter[float] = Counter()

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._intervals)

    @property
    def ids(self) -> Collection[str]:
        """The ids that matter to any of them."""
        return self._by_id

    @property
    def shortest_interval(self) -> float | None:
        """The shortest interval that any of them asks for, in seconds; None if there are none."""
        return min(self._intervals, default=None)

    def add(self, waiter: Waiter) -> None:
        """
        Let a waiter join.

        :param waiter: A new one.
        """
        for name in waiter.ids:
            self._by_id.setdefault(name, {})[waiter] = None
        for name in waiter.types:
            self._by_type.setdefault(name, {})[waiter] = None
        if waiter.every:
            self._every[waiter] = None
        self._intervals[waiter.interval] += 1

    def remove(self, waiter: Waiter) -> None:
        """
        Let a waiter leave.

        :param waiter: One that joined.
        """
        for index, names in ((self._by_id, waiter.ids), (self._by_type, waiter.types)):
            for name in names:
                waiters = index.get(name, {})
                waiters.pop(waiter, None)
                if not waiters:
                    index.pop(name, None)
        self._every.pop(waiter, None)
        self._intervals[waiter.interval] -= 1
        if self._intervals[waiter.interval] <= 0:
            del self._intervals[waiter.interval]

    def for_id(self, name: str) -> list[Waiter]:
        """
        Return those to whom an integration matters.

        :param name: Its id.
        """
        return list(self._by_id.get(name, ()))

    def concerned(self, before: Snapshot | None, now: Snapshot) -> dict[Waiter, None]:
        """
        Return those to whom a new answer matters.

        :param before: The answer before it, if there is one.
        :param now: The new answer.
        """
        found = dict(self._every)
        if before is not None:
            for integration_id, kinds in _changes(before, now):
                found.update(self._by_id.get(integration_id, {}))
                for kind in kinds:
                    found.update(self._by_type.get(kind, {}))
        return found

    def everyone(self) -> list[Waiter]:
        """Return all of them."""
        everyone = dict(self._every)
        for waiters in (*self._by_id.values(), *self._by_type.values()):
            everyone.update(waiters)
        return list(everyone)


def _changes(before: Snapshot, now: Snapshot) -> Iterable[tuple[str, set[str]]]:
    """Yield the ids of which something changed, with the types they had and have."""
    if before.integrations is not now.integrations:
        for integration_id in before.integrations.keys() | now.integrations.keys():
            old = before.integrations.get(integration_id)
            new = now.integrations.get(integration_id)
            if old is not new and old != new:
                yield integration_id, {i.type for i in (old, new) if i is not None}
    for integration_id in before.unread.keys() | now.unread.keys():
        was, is_ = before.unread.get(integration_id), now.unread.get(integration_id)
        if str(was) != str(is_):
            yield integration_id, {unread.type for unread in (was, is_) if unread is not None and unread.type}
