"""
What can be known of a parameter while the DAG is parsed: a plain value that is wrong, and is no template, fails there.

Whatever a template or an XCom may still become is left to the checks at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from airflow_provider_flokit.arguments import connection_id, moment, receipts_of, seconds, texts
from airflow_provider_flokit.errors import FlokitArgumentError
from airflow_provider_flokit.models import checked_id

if TYPE_CHECKING:
    from collections.abc import Callable

_DELIMITERS: Final = frozenset("{}[]<>()$%")
"""A DAG may have delimiters of its own for templates."""

_CONTAINERS: Final = (list, tuple, set, frozenset)
_PLAIN: Final = (bool, int, float, complex, bytes, bytearray, date, timedelta, Mapping)


def check_ids(value: object, *, many: bool = False) -> None:
    """
    Check ``integration_id``.

    :param value: What the user gave; None is not looked at.
    :param many: Whether it may be a list.
    :raises FlokitArgumentError: naming the parameter
    """
    _check(value, "integration_id", checked_id, many=many)


def check_types(value: object, *, many: bool = False) -> None:
    """
    Check ``integration_type``; see :func:`check_ids`.

    :param value: What the user gave.
    :param many: Whether it may be a list.
    """
    _check(value, "integration_type", lambda item: texts(item, "integration_type"), many=many)


def check_connection_id(value: object) -> None:
    """
    Check ``flokit_conn_id``.

    :param value: What the user gave.
    :raises FlokitArgumentError: if it is no text or cannot be an id
    """
    if value is None or _is_settled(value):
        connection_id(value)


def check_receipt(value: object) -> None:
    """
    Check ``receipt``.

    :param value: What the user gave; None is not looked at.
    :raises FlokitArgumentError: if it is no receipt
    """
    if value is not None and _is_settled(value):
        receipts_of(value)


def check_moment(value: object) -> None:
    """
    Check ``synced_after``.

    :param value: What the user gave; None is not looked at.
    :raises FlokitArgumentError: if it is no time
    """
    if value is not None and _is_settled(value):
        moment(value)


def check_age(value: object, name: str) -> None:
    """
    Check a timedelta.

    :param value: What the user gave; None is not looked at.
    :param name: The parameter.
    :raises FlokitArgumentError: if it is none, or negative
    """
    if value is not None and not isinstance(value, timedelta):
        raise FlokitArgumentError(f"{name} is no timedelta; give e.g. timedelta(hours=1).")
    if value is not None:
        seconds(value, name, zero=True)


def _check(value: object, name: str, check: Callable[[str], object], *, many: bool) -> None:
    if isinstance(value, _CONTAINERS) and not many:
        raise FlokitArgumentError(f"{name} is a list; give one, or map the task over the list with expand().")
    items = list(value) if isinstance(value, _CONTAINERS) else [] if value is None else [value]
    if value is not None and not items:
        texts(value, name)
    for item in items:
        if isinstance(item, str):
            if _is_settled(item):
                check(item)
        elif item is None or _is_settled(item):
            texts([item], name)


def _is_settled(value: object) -> bool:
    """Tell whether a value stays what it is: no template, and nothing that Airflow resolves when the task runs."""
    if isinstance(value, str):
        return _DELIMITERS.isdisjoint(value)
    if isinstance(value, _CONTAINERS):
        return all(item is None or _is_settled(item) for item in value)
    if isinstance(value, Mapping):
        return all(item is None or _is_settled(item) for item in (*value, *value.values()))
    return isinstance(value, _PLAIN)
