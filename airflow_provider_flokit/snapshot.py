"""The workspace at one moment: what FloKit's list said, and what single reads added to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_flokit.errors import (
    FlokitAmbiguousTypeError,
    FlokitAPIError,
    FlokitNotFoundError,
    FlokitPermanentError,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from airflow_provider_flokit.models import Integration


@dataclass(frozen=True, slots=True)
class Unread:
    """
    An integration that is there but could not be read.

    :param error: Why; a :class:`FlokitAPIError` may pass.
    :param type: Its type if that is known.
    """

    error: FlokitAPIError | FlokitPermanentError
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    The workspace at one moment.

    :param at: Server time.
    :param integrations: By id.
    :param missing: Ids that were asked for and do not exist.
    :param unread: Ids whose entry in the list is malformed, or that are not in it and could not be read singly.
    """

    at: datetime
    integrations: Mapping[str, Integration]
    missing: frozenset[str] = frozenset()
    unread: Mapping[str, Unread] = field(default_factory=dict)

    def covers(self, ids: Iterable[str]) -> bool:
        """
        Tell whether the snapshot says of every one of these ids what it is.

        :param ids: Integration ids.
        """
        return all(i in self.integrations or i in self.missing or i in self.unread for i in ids)

    def joined(self, singles: Iterable[Snapshot]) -> Snapshot:
        """
        Add what was read singly; the moment stays.

        :param singles: Snapshots of one integration each.
        """
        integrations, missing, unread = dict(self.integrations), set(self.missing), dict(self.unread)
        for single in singles:
            integrations.update(single.integrations)
            missing |= single.missing
            unread.update(single.unread)
        return replace(self, integrations=integrations, missing=frozenset(missing), unread=unread)

    def only_one(self, integration_type: str, conn_id: str) -> Integration:
        """
        Return the one integration of a type.

        :param integration_type: E.g. ``stripe``.
        :param conn_id: The connection, for the message.
        :raises FlokitNotFoundError: if there is none, listing what there is
        :raises FlokitAmbiguousTypeError: if there are several, listing their ids
        :raises FlokitResponseError: if that cannot be told because an entry is malformed
        """
        found = sorted(i.id for i in self.integrations.values() if i.type == integration_type)
        if len(found) > 1:
            raise FlokitAmbiguousTypeError(
                f"{len(found)} FloKit integrations have the type {shown(integration_type)!r} (connection {conn_id!r}): "
                f"{shown(', '.join(found))}. Say which one with integration_id."
            )
        for unread in self.unread.values():
            if may_be_the_one(unread.type, integration_type, len(found)):
                raise unread.error
        if found:
            return self.integrations[found[0]]
        raise FlokitNotFoundError(
            f"No FloKit integration has the type {shown(integration_type)!r} (connection {conn_id!r}). The workspace "
            f"has: {self.overview}."
        )

    @property
    def overview(self) -> str:
        """All integrations with their types, for messages."""
        known = sorted(self.integrations.values(), key=lambda i: i.id)
        return shown(", ".join(f"{i.id} ({i.type})" for i in known)) or "no integrations at all"


def may_be_the_one(malformed_type: str | None, wanted: str, found: int) -> bool:
    """
    Tell whether a malformed entry keeps the one integration of a type from being known.

    :param malformed_type: The entry's type if it has one.
    :param wanted: The type.
    :param found: How many of the type there are without it; two are too many whatever it is.
    """
    return not found if malformed_type is None else malformed_type == wanted and found <= 1
