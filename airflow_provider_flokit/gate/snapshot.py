"""The workspace at one moment: what FloKit's list said, and what single reads added to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_flokit.errors import (
    FlokitAmbiguousTypeError,
    FlokitError,
    FlokitNotFoundError,
    FlokitResponseError,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from airflow_provider_flokit.models import Integration


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    The workspace at one moment.

    :param at: Server time.
    :param integrations: By id.
    :param missing: Ids that the list does not hold and that are unknown when read singly.
    :param unread: Ids that the list does not hold and that could not be read singly, and why.
    :param malformed: Entries of the list that could not be used.
    """

    at: datetime
    integrations: Mapping[str, Integration]
    missing: frozenset[str] = frozenset()
    unread: Mapping[str, FlokitError] = field(default_factory=dict)
    malformed: int = 0

    def only_one(self, integration_type: str, conn_id: str) -> Integration:
        """
        Return the one integration of a type.

        :param integration_type: E.g. ``stripe``.
        :param conn_id: The connection, for the message.
        :raises FlokitNotFoundError: if there is none, listing what there is
        :raises FlokitAmbiguousTypeError: if there are several, listing their ids
        :raises FlokitResponseError: if there is none, but one of the malformed entries may be it
        """
        found = sorted(i.id for i in self.integrations.values() if i.type == integration_type)
        if len(found) == 1:
            return self.integrations[found[0]]
        kind = f"the type {shown(integration_type)!r} (connection {conn_id!r})"
        if found:
            raise FlokitAmbiguousTypeError(
                f"{len(found)} FloKit integrations have {kind}: {shown(', '.join(found))}. Say which one with "
                f"integration_id."
            )
        if self.malformed:
            raise FlokitResponseError(
                f"No FloKit integration has {kind}, but {self.malformed} in FloKit's list cannot be read."
            )
        raise FlokitNotFoundError(f"No FloKit integration has {kind}. The workspace has: {self.overview}.")

    @property
    def overview(self) -> str:
        """All integrations with their types, for messages."""
        known = sorted(self.integrations.values(), key=lambda i: i.id)
        return shown(", ".join(f"{i.id} ({i.type})" for i in known)) or "no integrations at all"
