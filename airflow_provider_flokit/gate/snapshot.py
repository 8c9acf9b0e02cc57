"""The workspace at one moment: what FloKit's list said, and what single reads added to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_flokit.errors import (
    FlokitAmbiguousTypeError,
    FlokitError,
    FlokitNotFoundError,
    FlokitResponseError,
    shown,
)
from airflow_provider_flokit.gate.words import listed, name_of, suggestion

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
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

    def with_singles(self, found: Mapping[str, Integration | FlokitError | None]) -> Snapshot:
        """
        Add what single reads told of ids that the list does not hold.

        :param found: By id: the integration, None if there is none, or why it could not be read.
        """
        if not found:
            return self
        read = {i: each for i, each in found.items() if each is not None and not isinstance(each, FlokitError)}
        return replace(
            self,
            integrations={**self.integrations, **read},
            missing=frozenset(i for i, each in found.items() if each is None),
            unread={i: each for i, each in found.items() if isinstance(each, FlokitError)},
        )

    def of_id(self, integration_id: str, conn_id: str) -> Integration:
        """
        Return an integration.

        :param integration_id: One that the snapshot was asked to hold.
        :raises FlokitNotFoundError: if there is none of that id
        :raises FlokitError: if it could not be read
        """
        if integration_id in self.unread:
            raise self.unread[integration_id]
        if integration_id not in self.integrations:
            raise self._unknown("id", integration_id, self.integrations, conn_id)
        return self.integrations[integration_id]

    def of_type(self, integration_type: str, conn_id: str) -> Integration:
        """
        Return the one integration of a type.

        :raises FlokitNotFoundError: if there is none
        :raises FlokitAmbiguousTypeError: if there are several, listing their ids
        :raises FlokitResponseError: if there is none, but one of the malformed entries may be it
        """
        found = sorted(i.id for i in self.integrations.values() if i.type == integration_type)
        if len(found) == 1:
            return self.integrations[found[0]]
        if found:
            raise FlokitAmbiguousTypeError(
                f"{len(found)} FloKit integrations have the type {shown(integration_type)!r}: say which one with "
                f"integration_id: {listed(found)} (connection {conn_id!r})."
            )
        if self.malformed:
            raise FlokitResponseError(
                f"No integration in FloKit's list has the type {shown(integration_type)!r}, but {self.malformed} in it "
                f"cannot be read (connection {conn_id!r})."
            )
        raise self._unknown("type", integration_type, {i.type for i in self.integrations.values()}, conn_id)

    def _unknown(self, kind: str, name: str, known: Collection[str], conn_id: str) -> FlokitNotFoundError:
        close = suggestion(name, known)
        there = listed(map(name_of, sorted(self.integrations.values(), key=lambda i: i.id)))
        return FlokitNotFoundError(
            f"FloKit has no integration of the {kind} {shown(name)!r}{f', {close}' if close else '.'} Check the "
            f"{kind}, and that the key belongs to the right workspace (connection {conn_id!r}). The workspace has: "
            f"{there or 'no integrations'}."
        )
