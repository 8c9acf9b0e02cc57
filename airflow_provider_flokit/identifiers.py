"""Texts that end up in a URL, a header or a look-up, and what they must not hold."""

from __future__ import annotations

from typing import Final

from airflow_provider_flokit.arguments import TEMPLATE, parsed
from airflow_provider_flokit.errors import FlokitArgumentError, shown

_ID_LENGTH_LIMIT: Final = 256
_KEY_LENGTH_LIMIT: Final = 255
_CONN_ID_LENGTH_LIMIT: Final = 250
"""What Airflow's database holds."""


def checked_id(integration_id: object, name: str = "integration_id") -> str:
    """
    Return an integration id that is safe to stand in a URL.

    :param integration_id: What the user gave.
    :param name: The parameter, for the message.
    :raises FlokitArgumentError: if it is empty, no text, or holds ``/``, ``?``, ``#``, ``..``, a space or a control
        character
    """
    text = integration_id if isinstance(integration_id, str) else ""
    if not text.strip() or text in ("None", "null"):
        raise FlokitArgumentError(
            f"{name} is {shown(repr(integration_id))}: give an integration's id, e.g. 'int_01hx4j7stripe'. If it is a "
            f"template, check what it renders to."
        )
    _refuse_other_than_one(text, name)
    forbidden = any(c in "/?#\\" or c.isspace() or not c.isprintable() for c in text)
    if forbidden or text == "." or ".." in text or len(text) > _ID_LENGTH_LIMIT:
        raise FlokitArgumentError(
            f"{name} {shown(repr(text))} is no integration id: it must not hold '/', '?', '#', '\\', '..', spaces or "
            f"control characters, nor be longer than {_ID_LENGTH_LIMIT} characters."
        )
    return text


def checked_header(value: object) -> str:
    """
    Return a text that may stand in an HTTP header.

    :param value: What the user gave as idempotency key.
    :raises FlokitArgumentError: if it holds other than printable ASCII
    """
    text = value if isinstance(value, str) else ""
    if not text or text != text.strip() or not (text.isascii() and text.isprintable()) or len(text) > _KEY_LENGTH_LIMIT:
        raise FlokitArgumentError(
            f"idempotency_key must be printable ASCII without spaces around it, at most {_KEY_LENGTH_LIMIT} characters."
        )
    return text


def connection_id(value: object) -> str:
    """
    Return the id of an Airflow connection.

    :param value: What the user gave as ``flokit_conn_id``.
    :raises FlokitArgumentError: if it is empty, no text, or holds what no connection's id does
    """
    text = value if isinstance(value, str) else ""
    if not text.strip() or text in ("None", "null"):
        raise FlokitArgumentError(
            f"flokit_conn_id is {shown(repr(value))}: give the id of an Airflow connection of type 'flokit'. If it is "
            f"a template, check what it renders to."
        )
    _refuse_other_than_one(text, "flokit_conn_id")
    if text != text.strip() or not text.isprintable() or len(text) > _CONN_ID_LENGTH_LIMIT:
        raise FlokitArgumentError(
            f"flokit_conn_id {shown(repr(text))} is no connection's id: it must not have spaces around it, nor hold "
            f"control characters, nor be longer than {_CONN_ID_LENGTH_LIMIT} characters."
        )
    return text


def _refuse_other_than_one(text: str, name: str) -> None:
    """Refuse the text of a list, and a template: what is still one here, nothing renders any more."""
    if not isinstance(parsed(text), str):
        raise FlokitArgumentError(f"{name} is {shown(repr(text))}: that is a list or an object, not one id.")
    if TEMPLATE.search(text):
        raise FlokitArgumentError(
            f"{name} is {shown(repr(text))}: a template that nothing renders here. Give the value itself."
        )
