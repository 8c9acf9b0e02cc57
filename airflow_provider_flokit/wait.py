"""What a wait waits for: the checked and normalised parameters of the operator, the sensor and the trigger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_flokit.arguments import flag, is_many, moment, receipts_of, seconds, texts
from airflow_provider_flokit.errors import FlokitArgumentError, shown
from airflow_provider_flokit.arguments import connection_id
from airflow_provider_flokit.models import checked_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from airflow_provider_flokit.models import SyncReceipt


@dataclass(frozen=True, slots=True)
class Wait:
    """
    What is waited for.

    :param conn_id: The Airflow connection, for messages.
    :param ids: Integrations to wait for.
    :param types: Types to wait for, each of which exactly one integration must have.
    :param receipts: By integration id: the sync that has to be done.
    :param synced_after: Server time that every ``last_synced_at`` has to reach.
    :param start_timeout: Seconds for which an error older than a receipt's sync is forgiven.
    :param fail_on_disconnected: Whether a disconnected integration ends the wait.
    :param tolerate_failures: Go on waiting after a failure, only logging it (a sensor's ``silent_fail``).
    :param single: Whether one integration was asked for, not a list.
    """

    conn_id: str
    ids: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    receipts: Mapping[str, SyncReceipt] = field(default_factory=dict)
    synced_after: datetime | None = None
    start_timeout: float = 300.0
    fail_on_disconnected: bool = True
    tolerate_failures: bool = False
    single: bool = True

    @classmethod
    def of(
        cls,
        *,
        flokit_conn_id: str,
        integration_id: object = None,
        integration_type: object = None,
        receipt: object = None,
        synced_after: object = None,
        start_timeout: float = 300.0,
        fail_on_disconnected: bool = True,
        tolerate_failures: bool = False,
        required: Iterable[str] = (),
    ) -> Self:
        """
        Check and normalise what a user gave, after templates were rendered.

        :param flokit_conn_id: The Airflow connection.
        :param integration_id: An id, or several in a list or its text.
        :param integration_type: A type, or several.
        :param receipt: A receipt, or several, as dict or JSON text.
        :param synced_after: A datetime or ISO 8601 text.
        :param start_timeout: See :class:`Wait`.
        :param fail_on_disconnected: See :class:`Wait`.
        :param tolerate_failures: See :class:`Wait`.
        :param required: Names of the parameters that were given and so must not have rendered to None.
        :raises FlokitArgumentError: naming the parameter
        """
        given = {
            "integration_id": integration_id,
            "integration_type": integration_type,
            "receipt": receipt,
            "synced_after": synced_after,
        }
        for name in required:
            if given[name] is None:
                raise FlokitArgumentError(f"{name} rendered to None. Check its template or the XCom it comes from.")
        if integration_id is not None and integration_type is not None:
            raise FlokitArgumentError("Give integration_id or integration_type, not both.")
        if integration_id is None and integration_type is None and receipt is None:
            raise FlokitArgumentError("Say what to wait for: give integration_id, integration_type or receipt.")
        receipts = {} if receipt is None else receipts_of(receipt)
        if integration_type is not None and receipts:
            raise FlokitArgumentError("A receipt names its integration; leave integration_type out.")
        ids = tuple(receipts) if integration_id is None and receipts else ()
        single = not is_many(receipt)
        if integration_id is not None:
            ids = tuple(checked_id(value) for value in texts(integration_id, "integration_id"))
            single = not is_many(integration_id)
            if stray := [i for i in receipts if i not in ids]:
                raise FlokitArgumentError(f"receipt is for {stray[0]!r}, which integration_id does not name.")
        types: tuple[str, ...] = ()
        if integration_type is not None:
            types = texts(integration_type, "integration_type")
            single = not is_many(integration_type)
        return cls(
            conn_id=connection_id(flokit_conn_id),
            ids=ids,
            types=types,
            receipts={i: r for i, r in receipts.items() if not r.skipped},
            synced_after=None if synced_after is None else moment(synced_after),
            start_timeout=seconds(start_timeout, "start_timeout", zero=True),
            fail_on_disconnected=flag(fail_on_disconnected, "fail_on_disconnected"),
            tolerate_failures=flag(tolerate_failures, "tolerate_failures"),
            single=single,
        )

    def to_arguments(self) -> dict[str, Any]:
        """Return the arguments of a trigger that waits for the same, as JSON values."""

        def shape(values: Iterable[Any]) -> Any:
            found = list(values)
            return (found[0] if self.single else found) if found else None

        receipts = self.receipts
        only_receipts = bool(receipts) and tuple(receipts) == self.ids
        return {
            "integration_id": None if only_receipts else shape(self.ids),
            "integration_type": shape(self.types),
            "receipt": shape(receipt.to_json() for receipt in receipts.values()),
            "synced_after": None if self.synced_after is None else self.synced_after.isoformat(),
            "flokit_conn_id": self.conn_id,
            "start_timeout": self.start_timeout,
            "fail_on_disconnected": self.fail_on_disconnected,
            "tolerate_failures": self.tolerate_failures,
        }

    @property
    def subject(self) -> str:
        """The names of what is waited for, for messages."""
        names = [*self.ids, *(f"of type {name}" for name in self.types)]
        return f"FloKit integration{'' if len(names) == 1 else 's'} {shown(', '.join(names))}"
