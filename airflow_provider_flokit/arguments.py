"""
Checking what a DAG author gave, before and after templates are rendered.

Every refusal names the parameter and says what to give instead.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_flokit.errors import FlokitArgumentError, shown

if TYPE_CHECKING:
    from airflow_provider_flokit.models import SyncReceipt

TEMPLATE: Final = re.compile(r"\{[{%#]")
"""What opens a template, unless the DAG has delimiters of its own."""

_EMPTY: Final = frozenset({"", "None", "null", "[]"})

LONGEST: Final = 100 * 365.25 * 24 * 3600
"""Seconds that a parameter may ask for: a century, as Python's clocks overflow somewhere beyond."""


CONDITIONS: Final = ("integration_id", "integration_type", "receipt", "synced_after")
"""The parameters that say what to wait for. A template that renders to nothing must not silently drop one."""


def conditions_of(waiting: object) -> tuple[str, ...]:
    """
    Return the names of the conditions that a sensor or trigger was given, before its templates are rendered.

    :param waiting: A sensor or a trigger.
    """
    return tuple(name for name in CONDITIONS if getattr(waiting, name) is not None)


def seconds(value: object, name: str, *, zero: bool = False) -> float:
    """
    Return a number of seconds.

    :param value: A number or a timedelta.
    :param name: The parameter.
    :param zero: Whether 0 is fine.
    :raises FlokitArgumentError: if it is no finite number above 0
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not _is_finite(number):
        raise FlokitArgumentError(f"{name} is {shown(repr(value))}: give a number of seconds or a timedelta.")
    if number < 0 or (number == 0 and not zero):
        raise FlokitArgumentError(f"{name} is {number:g}: it must be {'0 or more' if zero else 'more than 0'} seconds.")
    if number > LONGEST:
        raise FlokitArgumentError(f"{name} is {float(number):g}: it must be at most {LONGEST:g} seconds, a century.")
    return float(number)


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def flag(value: object, name: str) -> bool:
    """
    Return a boolean.

    :param value: True or False.
    :param name: The parameter.
    :raises FlokitArgumentError: if it is neither
    """
    if not isinstance(value, bool):
        raise FlokitArgumentError(f"{name} is {shown(repr(value))}: give True or False.")
    return value


def is_many(value: object) -> bool:
    """
    Tell whether several were given: a list, or the text of one.

    :param value: What was given.
    """
    if isinstance(value, str):
        value = parsed(value)
    return isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes)


def parsed(text: str) -> object:
    """
    Return the list or dict that a template rendered to as text, else the text.

    :param text: What a template may have rendered to.
    """
    if text.strip()[:1] not in ("[", "{", "("):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's opinion on what only resembles a list
            return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def one_text(value: object, name: str) -> str:
    """
    Return the one text that was given.

    :param value: What was given.
    :param name: The parameter.
    :raises FlokitArgumentError: if it is none, or several
    """
    if is_many(value):
        raise FlokitArgumentError(f"{name} is a list; give one, or map the task over the list with expand().")
    return texts(value, name)[0]


def _items(value: object, name: str) -> list[Any]:
    if isinstance(value, str):
        value = parsed(value)
    if isinstance(value, str) and value.strip() in _EMPTY:
        value = []
    if not is_many(value):
        return [value]
    items: list[Any] = list(value)  # type: ignore[call-overload]
    if not items:
        raise FlokitArgumentError(f"{name} is empty: there is nothing to wait for. If it is a template, check it.")
    return items


def texts(value: object, name: str) -> tuple[str, ...]:
    """
    Return one or several texts, without repetitions.

    :param value: A text, a list of texts, or the text of a list.
    :param name: The parameter.
    :raises FlokitArgumentError: if there is none, or something else
    """
    items = _items(value, name)
    for item in items:
        if not isinstance(item, str) or item.strip() in _EMPTY:
            raise FlokitArgumentError(f"{name} holds {shown(repr(item))}, which is no text. Check what it renders to.")
        if item != item.strip() or not item.isprintable():
            raise FlokitArgumentError(
                f"{name} holds {shown(repr(item))}, with spaces around it or control characters in it. Check what it "
                f"renders to."
            )
    return tuple(dict.fromkeys(items))


def receipts_of(value: object) -> dict[str, SyncReceipt]:
    """
    Return receipts by their integration's id.

    :param value: A receipt, its JSON as dict or text, or a list of such.
    :raises FlokitArgumentError: if there is none, something else, or two for one integration
    """
    from airflow_provider_flokit.models import MalformedDataError, SyncReceipt, checked_id

    receipts: dict[str, SyncReceipt] = {}
    for item in _items(value, "receipt"):
        data = parsed(item) if isinstance(item, str) else item
        if isinstance(data, Mapping):
            data = dict(data)
        try:
            receipt = data if isinstance(data, SyncReceipt) else SyncReceipt.from_json(data)
        except MalformedDataError as error:
            raise FlokitArgumentError(
                f"receipt is no receipt of FlokitTriggerSyncOperator ({error}). Give its XCom: "
                f'receipt=sync.output["receipt"].'
            ) from None
        checked_id(receipt.integration_id, "receipt's integration_id")
        if receipt.integration_id in receipts:
            raise FlokitArgumentError(f"receipt holds two receipts for {receipt.integration_id!r}.")
        receipts[receipt.integration_id] = receipt
    return receipts


def moment(value: object) -> datetime:
    """
    Return ``synced_after`` as a time in UTC.

    :param value: A datetime or an ISO 8601 text; a naive one is UTC.
    :raises FlokitArgumentError: if it is neither
    """
    from airflow_provider_flokit.models import MalformedDataError, as_utc, parse_time

    try:
        if isinstance(value, datetime):
            return as_utc(value)
        return parse_time(value if isinstance(value, str) else f"{value!r} (not a text)")
    except (MalformedDataError, OverflowError) as error:
        raise FlokitArgumentError(
            f"synced_after: {error}. Give a datetime or an ISO 8601 text. A run without a data interval renders "
            f"'{{{{ data_interval_end }}}}' to nothing; use '{{{{ dag_run.run_after }}}}' (Airflow 3) or a time of "
            f"your own there."
        ) from None


def connection_id(value: object) -> str:
    """
    Return the id of an Airflow connection.

    :param value: What the user gave as ``flokit_conn_id``.
    :raises FlokitArgumentError: if it is no id
    """
    if not isinstance(value, str) or value.strip() in _EMPTY or TEMPLATE.search(value) or not value.isprintable():
        raise FlokitArgumentError(
            f"flokit_conn_id is {shown(repr(value))}: give the id of an Airflow connection of type 'flokit'. If it is a "
            f"template, check what it renders to."
        )
    return value
