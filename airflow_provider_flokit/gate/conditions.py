"""
Check the parameters of the operator, the sensor and the trigger, which say what a task waits for.

Templated fields are checked when the task runs, after rendering; all others when the DAG is read.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_provider_flokit.errors import FlokitArgumentError, shown
from airflow_provider_flokit.gate.words import listed, moment
from airflow_provider_flokit.models import MalformedDataError, SyncReceipt, as_utc, checked_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TEMPLATED: Final = ("integration_id", "integration_type", "receipt", "synced_after")
"""The parameters that say what to wait for. If a template renders to nothing, that is an error: it drops none."""

SETTINGS: Final = ("start_timeout", "fail_on_disconnected", "tolerate_failures")
"""The parameters that say how to judge it."""

ARGUMENTS: Final = (*TEMPLATED, "flokit_conn_id", *SETTINGS)
"""The parameters of the conditions that a trigger gets."""

START_TIMEOUT: Final = 300.0

_LONGEST: Final = 1e9  # seconds, 31 years: longer ones would exceed the range of dates
_NO_RECEIPTS: Final[Mapping[str, SyncReceipt]] = {}  # shared by all waits without a receipt, to save memory
_NOTHING: Final = ("", "None", "null", "[]")


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a task waits for, and how it is judged."""

    conn_id: str
    ids: tuple[str, ...] = ()
    types: tuple[str, ...] = ()  # exactly one integration must have each type
    receipts: Mapping[str, SyncReceipt] = field(default_factory=dict)  # by integration id: the sync that must be done
    synced_after: datetime | None = None  # server time that every last_synced_at must reach
    start_timeout: float = START_TIMEOUT  # seconds for which an error older than a receipt's sync is ignored
    fail_on_disconnected: bool = True
    tolerate_failures: bool = False  # only log failures (a sensor's silent_fail)
    single: bool = True  # one integration was asked for, not a list

    @classmethod
    def of(
        cls,
        arguments: Mapping[str, Any],
        *,
        owner: str,
        to_utc: Callable[[datetime], datetime] = as_utc,
        required: Iterable[str] = (),
    ) -> Self:
        """
        Check what a user gave, after templates were rendered.

        :param owner: The class and the task, for messages.
        :param to_utc: Converts a naive ``synced_after``.
        :param required: Names of the parameters that were given; they must not have rendered to nothing.
        """
        check = Checker(owner)
        for name in required:
            if arguments.get(name) is None:
                raise check.nothing(name, None)
        one_id, one_type, receipt, after = (arguments.get(name) for name in TEMPLATED)
        check.choice(one_id, one_type, receipt)
        receipts = _NO_RECEIPTS if receipt is None else check.receipts(receipt)
        ids = tuple(receipts) if one_id is None else tuple(check.ids(one_id))
        if stray := [i for i in receipts if i not in ids]:
            problem = f"is for {stray[0]!r}, which integration_id does not name"
            raise check.wrong("receipt", problem, "leave one of them out")
        given = _parsed(next(value for value in (one_id, one_type, receipt) if value is not None))
        return cls(
            conn_id=check.text("flokit_conn_id", arguments.get("flokit_conn_id")),
            ids=ids,
            types=() if one_type is None else tuple(check.texts("integration_type", one_type)),
            receipts=receipts,
            synced_after=None if after is None else check.time("synced_after", after, to_utc),
            single=not isinstance(given, Sequence) or isinstance(given, str),
            **{name: arguments[name] for name in SETTINGS if name in arguments},
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
            **{name: getattr(self, name) for name in SETTINGS},
        }

    def describe(self, now: datetime) -> str:
        """Say what the task waits for, with its condition; times are written relative to now."""
        names = [*self.ids, *(f"the {name} integration" for name in self.types)]
        syncs = [f"sync {r.sync_id}" for r in self.receipts.values() if r.sync_id]
        what = f"{listed(syncs)} of {listed(names)}" if syncs else listed(names)
        return f"{what}, synced at or after {moment(self.synced_after, now)}" if self.synced_after else what


class Checker:
    """Checks single parameters. Every error names the owner and the parameter, and says what to give instead."""

    def __init__(self, owner: str) -> None:
        self.owner = owner  # the class and the task, such as FlokitIntegrationSensor 'gate'

    def wrong(self, name: str, problem: str, todo: str) -> FlokitArgumentError:
        """Return the error for a parameter."""
        return FlokitArgumentError(f"{self.owner}: {name} {problem}: {todo}.")

    def nothing(self, name: str, value: object) -> FlokitArgumentError:
        """Return the error for a template that rendered to nothing."""
        todo = "check the template"
        if name == "receipt":
            todo = "the operator pushed no return value; check the template and the task that it names"
        return self.wrong(name, f"rendered to {value!r}", todo)

    def no_effect(self, name: str, where: str) -> None:
        """Warn of a setting that has no effect."""
        warnings.warn(f"{self.owner}: {name} has no effect {where}.", UserWarning, stacklevel=4)

    def choice(self, integration_id: object, integration_type: object, receipt: object) -> None:
        """Check that a sensor's parameters do not exclude each other."""
        if integration_type is not None and (integration_id is not None or receipt is not None):
            other = "receipt" if integration_id is None else "integration_id"
            raise self.wrong("integration_type", f"and {other} exclude each other", "leave one of them out")
        if integration_id is None and integration_type is None and receipt is None:
            todo = "give integration_id, integration_type or receipt"
            raise FlokitArgumentError(f"{self.owner}: nothing to wait for: {todo}.")

    def seconds(self, name: str, value: object, *, zero: bool = False) -> float:
        """Return seconds above 0 (with ``zero``: 0 or more), from a number or a timedelta."""
        if isinstance(value, timedelta):
            value = value.total_seconds()
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
        if 0 < number <= _LONGEST or (zero and number == 0):
            return number
        kind = "0 or more" if zero else "more than 0"
        raise self.wrong(name, f"is {shown(repr(value))}", f"give a number of seconds, {kind}")

    def flag(self, name: str, value: object) -> bool:
        """Return True or False."""
        if not isinstance(value, bool):
            raise self.wrong(name, f"is {shown(repr(value))}", "give True or False")
        return value

    def text(self, name: str, value: object) -> str:
        """Return one text."""
        texts = self.texts(name, value)
        if len(texts) != 1 or not isinstance(_parsed(value), str):
            raise self.wrong(name, "is a list", "give one, or map the task over the list with expand()")
        return texts[0]

    def texts(self, name: str, value: object) -> list[str]:
        """Return one or several texts, without repetitions."""
        items = self._items(name, value)
        for item in items:
            if _is_nothing(item):
                raise self.nothing(name, item)
            if not isinstance(item, str) or "{{" in item or item != item.strip() or not item.isprintable():
                raise self.wrong(name, f"is {shown(repr(item))}", "check what it renders to")
        return list(dict.fromkeys(items))

    def ids(self, value: object) -> list[str]:
        """Return one or several integration ids, without repetitions."""
        return [checked_id(i, f"{self.owner}: integration_id") for i in self.texts("integration_id", value)]

    def one_id(self, value: object) -> str:
        """Return one integration id."""
        return checked_id(self.text("integration_id", value), f"{self.owner}: integration_id")

    def receipts(self, value: object) -> dict[str, SyncReceipt]:
        """Return receipts by their integration's id; if an integration has two, the later one counts."""
        items = self._items("receipt", value)
        if len(items) == 2 and items[0] in SyncReceipt.__slots__:  # noqa: PLR2004 - a pair
            raise self.wrong(
                "receipt",
                "is one key and value of a receipt, because expand() was used on a task that is not mapped",
                "if sync is not mapped: use receipt=sync.output",
            )
        receipts: dict[str, SyncReceipt] = {}
        for receipt in map(self._receipt, items):
            known = receipts.get(receipt.integration_id)
            if known is None or receipt.triggered_at >= known.triggered_at:
                receipts[receipt.integration_id] = receipt
        return receipts

    def time(self, name: str, value: object, to_utc: Callable[[datetime], datetime]) -> datetime:
        """Return a time in UTC, from a datetime or ISO 8601 text."""
        try:
            return as_utc(to_utc(value if isinstance(value, datetime) else datetime.fromisoformat(str(value))))
        except (ValueError, OverflowError):
            todo = "give a datetime or an ISO 8601 text. A run without a data interval has no data_interval_end"
            raise self.wrong(name, f"is {shown(repr(value))}", todo) from None

    def _items(self, name: str, value: object) -> list[Any]:
        value = _parsed(value)
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            if not value:
                raise self.wrong(
                    name, "is an empty list", "there is nothing to wait for; if it is a template, check it"
                )
            return list(value)
        return [value]

    def _receipt(self, item: object) -> SyncReceipt:
        if isinstance(item, SyncReceipt):
            return item
        data = _parsed(item)
        if _is_nothing(data):
            raise self.nothing("receipt", data)
        if isinstance(data, str):
            todo = "use receipt=sync.output, or '{{ ti.xcom_pull(\"sync\") | tojson }}'"
            raise self.wrong("receipt", "is a text that is no JSON, such as a Python repr", todo)
        try:
            receipt = SyncReceipt.from_json(dict(data) if isinstance(data, Mapping) else data)
            checked_id(receipt.integration_id)
        except (MalformedDataError, FlokitArgumentError) as error:
            problem = f"does not come from a FlokitTriggerSyncOperator ({error})"
            raise self.wrong("receipt", problem, "use receipt=sync.output") from None
        return receipt


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip() in _NOTHING)


def _parsed(value: object) -> object:
    """Parse a list or object that is JSON text, and turn a set into a list; else return the value."""
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            parsed: object = json.loads(value)
        except ValueError:
            return value
        return parsed
    return value
