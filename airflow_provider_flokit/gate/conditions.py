"""
What a task waits for: the parameters of the operator, the sensor and the trigger, checked.

What needs no rendering is checked when the DAG is read; templated fields when the task runs, after rendering. Every
refusal names the class, the task and the parameter, and says what to give instead.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from airflow_provider_flokit.errors import FlokitArgumentError, shown
from airflow_provider_flokit.gate.words import listed, moment
from airflow_provider_flokit.models import MalformedDataError, SyncReceipt, as_utc, checked_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TEMPLATED: Final = ("integration_id", "integration_type", "receipt", "synced_after")
"""The parameters that say what to wait for. A template that renders to nothing must not silently drop one."""

_NOTHING: Final = ("", "None", "null", "[]")
_NO_RECEIPTS: Final[Mapping[str, SyncReceipt]] = {}  # one for the thousands of waits without
_RECEIPT_FIELDS: Final = frozenset(SyncReceipt.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Conditions:
    """
    What is waited for.

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
        arguments: Mapping[str, Any],
        *,
        owner: str,
        to_utc: Callable[[datetime], datetime] = as_utc,
        required: Iterable[str] = (),
        start_timeout: float = 300.0,
        fail_on_disconnected: bool = True,
        tolerate_failures: bool = False,
    ) -> Self:
        """
        Check what a user gave, after templates were rendered.

        :param arguments: ``flokit_conn_id``, ``integration_id`` (one or a list), ``integration_type`` (one or a list),
            ``receipt`` (one or a list, as dict or JSON text) and ``synced_after`` (datetime or ISO 8601 text).
        :param owner: The class and the task, for messages.
        :param to_utc: Knows the timezone of a naive ``synced_after``.
        :param required: Names of the parameters that were given, so that they must not have rendered to nothing.
        :raises FlokitArgumentError: naming owner and parameter
        """
        reader = _Reader(owner)
        for name in required:
            if arguments.get(name) is None:
                reader.refuse_nothing(name, None)
        one_id, one_type, receipt, after = (arguments.get(name) for name in TEMPLATED)
        check_choice(owner, one_id, one_type, receipt)
        receipts = _NO_RECEIPTS if receipt is None else reader.receipts(receipt)
        ids = tuple(receipts) if one_id is None else tuple(checked_ids(owner, one_id))
        if stray := [i for i in receipts if i not in ids]:
            reader.refuse(
                "receipt", f"is for {stray[0]!r}, which integration_id does not name", "leave one of them out"
            )
        given = next(value for value in (one_id, one_type, receipt) if value is not None)
        return cls(
            conn_id=checked_text(owner, "flokit_conn_id", arguments.get("flokit_conn_id")),
            ids=ids,
            types=() if one_type is None else tuple(reader.texts("integration_type", one_type)),
            receipts=receipts,
            synced_after=None if after is None else reader.time(after, to_utc),
            start_timeout=start_timeout,
            fail_on_disconnected=fail_on_disconnected,
            tolerate_failures=tolerate_failures,
            single=not isinstance(_parsed(given), Sequence) or isinstance(_parsed(given), str),
        )

    def to_arguments(self) -> dict[str, Any]:
        """Return the arguments of a trigger that waits for the same, as JSON values."""

        def shape(values: Iterable[Any]) -> Any:
            found = list(values)
            return (found[0] if self.single else found) if found else None

        return {
            "integration_id": None if tuple(self.receipts) == self.ids else shape(self.ids),
            "integration_type": shape(self.types),
            "receipt": shape(receipt.to_json() for receipt in self.receipts.values()),
            "synced_after": None if self.synced_after is None else self.synced_after.isoformat(),
            "flokit_conn_id": self.conn_id,
            "start_timeout": self.start_timeout,
            "fail_on_disconnected": self.fail_on_disconnected,
            "tolerate_failures": self.tolerate_failures,
        }

    def describe(self, now: datetime) -> str:
        """
        Say what is waited for, with its condition.

        :param now: The present, which decides how times are written.
        """
        names = [*self.ids, *(f"the {name} integration" for name in self.types)]
        syncs = [f"sync {r.sync_id}" for r in self.receipts.values() if r.sync_id]
        what = f"{listed(syncs)} of {listed(names)}" if syncs else listed(names)
        return f"{what}, synced at or after {moment(self.synced_after, now)}" if self.synced_after else what


def seconds(owner: str, name: str, value: object, *, zero: bool = False) -> float:
    """
    Return a number of seconds.

    :param value: A number or a timedelta.
    :param zero: Whether 0 is fine.
    :raises FlokitArgumentError: if it is no finite number above 0
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if 0 < number < math.inf or (zero and number == 0):
        return number
    kind = "0 or more" if zero else "more than 0"
    raise FlokitArgumentError(f"{owner}: {name} is {shown(repr(value))}: give a number of seconds, {kind}.")


def flag(owner: str, name: str, value: object) -> bool:
    """
    Return a boolean.

    :param value: True or False.
    :raises FlokitArgumentError: if it is neither
    """
    if not isinstance(value, bool):
        raise FlokitArgumentError(f"{owner}: {name} is {shown(repr(value))}: give True or False.")
    return value


def warn_of_no_effect(owner: str, name: str, where: str) -> None:
    """
    Warn, when the DAG is read, of a setting that has no effect.

    :param where: Why it has none.
    """
    warnings.warn(f"{owner}: {name} has no effect {where}.", UserWarning, stacklevel=4)


def check_choice(owner: str, integration_id: object, integration_type: object, receipt: object) -> None:
    """
    Check which of the parameters of a sensor were given.

    :raises FlokitArgumentError: if they do not go together
    """
    if integration_type is not None and (integration_id is not None or receipt is not None):
        other = "receipt" if integration_id is None else "integration_id"
        raise FlokitArgumentError(f"{owner}: integration_type and {other} exclude each other: leave one of them out.")
    if integration_id is None and integration_type is None and receipt is None:
        raise FlokitArgumentError(f"{owner}: nothing to wait for: give integration_id, integration_type or receipt.")


def checked_text(owner: str, name: str, value: object) -> str:
    """
    Return the one text that was given.

    :raises FlokitArgumentError: if it is none
    """
    texts = _Reader(owner).texts(name, value)
    if len(texts) != 1 or not isinstance(_parsed(value), str):
        _Reader(owner).refuse(name, "is a list", "give one, or map the task over the list with expand()")
    return texts[0]


def checked_one_id(owner: str, value: object) -> str:
    """
    Return the one integration id that was given.

    :raises FlokitArgumentError: if it is none
    """
    return checked_ids(owner, checked_text(owner, "integration_id", value))[0]


def checked_ids(owner: str, value: object) -> list[str]:
    """
    Return one or several integration ids, without repetitions.

    :param value: An id, a list of ids, or a JSON list as text.
    :raises FlokitArgumentError: if there is none, or something else
    """
    try:
        return [checked_id(each) for each in _Reader(owner).texts("integration_id", value)]
    except FlokitArgumentError as error:
        message = str(error)
        raise FlokitArgumentError(message if message.startswith(owner) else f"{owner}: {message}") from None


class _Reader:
    """Reads single parameters; every error names the owner and the parameter."""

    def __init__(self, owner: str) -> None:
        self.owner = owner

    def refuse(self, name: str, problem: str, todo: str) -> NoReturn:
        raise FlokitArgumentError(f"{self.owner}: {name} {problem}: {todo}.")

    def refuse_nothing(self, name: str, value: object) -> NoReturn:
        todo = "check the template"
        if name == "receipt":
            todo = "the operator pushed no return value; check the template and the task that it names"
        self.refuse(name, f"rendered to {value!r}", todo)

    def items(self, name: str, value: object) -> list[Any]:
        value = _parsed(value)
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            if not value:
                self.refuse(name, "is an empty list", "there is nothing to wait for; if it is a template, check it")
            return list(value)
        return [value]

    def texts(self, name: str, value: object) -> list[str]:
        items = self.items(name, value)
        for item in items:
            if item is None or (isinstance(item, str) and item.strip() in _NOTHING):
                self.refuse_nothing(name, item)
            if not isinstance(item, str) or "{{" in item or item != item.strip() or not item.isprintable():
                self.refuse(name, f"is {shown(repr(item))}", "check what it renders to")
        return list(dict.fromkeys(items))

    def receipts(self, value: object) -> dict[str, SyncReceipt]:
        """Return receipts by their integration's id; of two for one integration, the later one counts."""
        items = self.items("receipt", value)
        if len(items) == 2 and isinstance(items[0], str) and items[0] in _RECEIPT_FIELDS:  # noqa: PLR2004 - a pair
            self.refuse(
                "receipt",
                "is one pair of a receipt's dict, as expand() makes of a task that is not mapped",
                "if sync is not mapped: use receipt=sync.output",
            )
        receipts: dict[str, SyncReceipt] = {}
        for item in items:
            receipt = self.one_receipt(item)
            known = receipts.get(receipt.integration_id)
            if known is None or receipt.triggered_at >= known.triggered_at:
                receipts[receipt.integration_id] = receipt
        return receipts

    def one_receipt(self, item: object) -> SyncReceipt:
        if isinstance(item, SyncReceipt):
            return item
        data = _parsed(item)
        if data is None or (isinstance(data, str) and data.strip() in _NOTHING):
            self.refuse_nothing("receipt", data)
        if isinstance(data, str):
            self.refuse(
                "receipt",
                "is a text that is no JSON, such as a Python repr",
                "use receipt=sync.output, or '{{ ti.xcom_pull(\"sync\") | tojson }}'",
            )
        try:
            receipt = SyncReceipt.from_json(dict(data) if isinstance(data, Mapping) else data)
            checked_id(receipt.integration_id)
        except (MalformedDataError, FlokitArgumentError) as error:
            problem = f"does not come from a FlokitTriggerSyncOperator ({error})"
            raise FlokitArgumentError(f"{self.owner}: receipt {problem}: use receipt=sync.output.") from None
        return receipt

    def time(self, value: object, to_utc: Callable[[datetime], datetime]) -> datetime:
        try:
            return as_utc(to_utc(value if isinstance(value, datetime) else datetime.fromisoformat(str(value))))
        except (ValueError, OverflowError):
            raise FlokitArgumentError(
                f"{self.owner}: synced_after is {shown(repr(value))}: give a datetime or an ISO 8601 text. A run "
                f"without a data interval has no data_interval_end."
            ) from None


def _parsed(value: object) -> object:
    """Return the list or object that a template rendered to as JSON text, else the value; a set is a list, too."""
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            parsed: object = json.loads(value)
        except ValueError:
            return value
        return parsed
    return value
