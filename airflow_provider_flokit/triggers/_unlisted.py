"""What is known of the integrations that are waited for but that FloKit's list does not hold."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from airflow_provider_flokit.models import Integration
    from airflow_provider_flokit.gate.snapshot import Snapshot


class Unlisted:
    """The ids that have to be read singly, and the last answer for each."""

    def __init__(self) -> None:
        self.unchecked: set[str] = set()
        """Ids somebody began to wait for since the last list."""
        self._ids: set[str] = set()
        self._found: dict[str, tuple[Snapshot, float]] = {}
        self._listed: Mapping[str, Integration] | None = None

    def update(self, listed: Snapshot, wanted: Collection[str]) -> Iterable[str]:
        """
        Compare what is waited for with a list; while neither changes, only what is known to be missing is looked at.

        :param listed: The list.
        :param wanted: The ids that are waited for.
        :return: the ids to read singly
        """
        changed = listed.integrations is not self._listed
        candidates = wanted if changed else self._ids | self.unchecked
        self._ids = {name for name in candidates if name in wanted and not listed.covers((name,))}
        self._found = {name: found for name, found in self._found.items() if name in self._ids}
        self._listed = listed.integrations
        self.unchecked.clear()
        return self._ids

    def note(self, name: str, found: Snapshot, asked_at: float) -> bool:
        """
        Keep the answer to a single read.

        :param name: The id.
        :param found: The answer.
        :param asked_at: When it was asked for.
        :return: whether it differs from the one before
        """
        before = self._found.get(name)
        self._found[name] = (found, asked_at)
        return before is None or _said_of(name, before[0]) != _said_of(name, found)

    def last(self, name: str) -> Snapshot | None:
        """
        Return the last answer to a single read.

        :param name: The id.
        """
        found = self._found.get(name)
        return None if found is None else found[0]

    def added_to(self, listed: Snapshot, ids: Iterable[str]) -> tuple[Snapshot, float]:
        """
        Add what was read singly to a list.

        :param listed: The list.
        :param ids: The ids that matter.
        :return: both in one, and when the oldest of the single reads was asked for; infinity if there are none
        """
        reads = [self._found[name] for name in ids if name in self._found and not listed.covers((name,))]
        if not reads:
            return listed, float("inf")
        singles = [found for found, _ in reads]
        at = max([listed.at, *(found.at for found in singles)])
        return replace(listed.joined(singles), at=at), min(asked_at for _, asked_at in reads)


def _said_of(name: str, found: Snapshot) -> tuple[Integration | None, str]:
    unread = found.unread.get(name)
    return found.integrations.get(name), "" if unread is None else str(unread.error)
