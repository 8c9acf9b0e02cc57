"""The workspace at one moment, from FloKit's list and from reads of single integrations."""

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
from airflow_provider_flokit.models import Integration

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The workspace at one moment."""

    at: datetime  # server time
    integrations: Mapping[str, Integration]  # by id
    unread: Mapping[str, FlokitError] = field(default_factory=dict)  # ids not in the list: why a single read failed
    malformed: int = 0  # entries of the list that could not be used

    def with_singles(self, found: Mapping[str, Integration | FlokitError]) -> Snapshot:
        """Add the results of single reads by id: the integration or the error."""
        read = {i: each for i, each in found.items() if isinstance(each, Integration)}
        unread = {i: each for i, each in found.items() if isinstance(each, FlokitError)}
        return replace(self, integrations={**self.integrations, **read}, unread=unread) if found else self

    def changed_since(self, before: Snapshot) -> set[str]:
        """Return the ids and types of integrations that have changed, and the ids that are not in the list."""
        changed, was, now = set(self.unread), before.integrations, self.integrations
        for integration_id in was.keys() | now.keys():
            old, new = was.get(integration_id), now.get(integration_id)
            if old is not new and old != new:
                changed |= {integration_id, *(each.type for each in (old, new) if each is not None)}
        return changed

    def of_id(self, integration_id: str, conn_id: str) -> Integration:
        """Return an integration; raise a :class:`FlokitError` if there is none, or if it could not be read."""
        if integration_id in self.integrations:
            return self.integrations[integration_id]
        error = self.unread.get(integration_id)
        if error is None or isinstance(error, FlokitNotFoundError):
            raise self._unknown("id", integration_id, self.integrations, conn_id)
        raise error

    def of_type(self, integration_type: str, conn_id: str) -> Integration:
        """Return the only integration of a type; raise a :class:`FlokitError` if there is none, or several."""
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
