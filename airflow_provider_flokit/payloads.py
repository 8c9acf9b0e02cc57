"""
From an answer's body to models, and to texts that may go on into messages, XComs and trigger rows.

Each ``parse_…`` takes a body and raises :class:`~airflow_provider_flokit.models.MalformedDataError` if it is not the
documented JSON, another ``ValueError`` or a ``RecursionError`` if it is no JSON at all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_flokit.errors import cut, escaped, shown
from airflow_provider_flokit.models import Integration, MalformedDataError
from airflow_provider_flokit.snapshot import may_be_the_one

if TYPE_CHECKING:
    from airflow_provider_flokit.connection import FlokitConnection

_NAME_LENGTH: Final = 256
_ERROR_MESSAGE_LENGTH: Final = 2000


@dataclass(frozen=True, slots=True)
class Source:
    """
    What a description of malformed data may quote.

    :param body: The words, as the server wrote them.
    """

    body: bytes = field(repr=False)  # a server may have repeated the API key there


@dataclass(frozen=True, slots=True)
class MalformedEntry:
    """
    An entry of the list that is no integration.

    :param problem: What is wrong with it.
    :param type: Its type if it has one.
    :param source: The entry.
    """

    problem: str
    type: str | None
    source: Source


def parse_list(body: bytes) -> tuple[list[Integration], dict[str, MalformedEntry]]:
    """
    Read a list for a wait: a malformed entry harms no other wait than one for it.

    :param body: The answer's.
    :return: the integrations, and by id what is wrong with malformed entries
    """
    entries = _member(body, "integrations")
    if not isinstance(entries, list):
        raise MalformedDataError("'integrations' is missing or not a list")
    integrations: list[Integration] = []
    malformed: dict[str, MalformedEntry] = {}
    for entry in entries:
        try:
            integrations.append(_bounded(Integration.from_json(entry)))
        except MalformedDataError as error:
            name, kind = (entry.get("id"), entry.get("type")) if isinstance(entry, dict) else (None, None)
            if not isinstance(name, str) or not name or name in malformed:
                raise
            source = Source(json.dumps(entry, ensure_ascii=False).encode(errors="replace"))
            malformed[name] = MalformedEntry(str(error), kind if isinstance(kind, str) else None, source)
    if len({i.id for i in integrations} | malformed.keys()) != len(integrations) + len(malformed):
        raise MalformedDataError("'integrations' holds an id twice")
    return integrations, malformed


def parse_whole_list(body: bytes, integration_type: str | None = None) -> list[Integration]:
    """
    Read a list for a caller who wants all of it, or the one integration of a type.

    :param body: The answer's.
    :param integration_type: The type: a malformed entry that cannot be the one does no harm then.
    """
    integrations, malformed = parse_list(body)
    found = sum(i.type == integration_type for i in integrations)
    for name, bad in malformed.items():
        if integration_type is None or may_be_the_one(bad.type, integration_type, found):
            raise MalformedDataError(f"integration {shown(name)}: {bad.problem}")
    return integrations


def parse_integration(body: bytes, integration_id: str) -> Integration:
    """
    Read a single integration.

    :param body: The answer's.
    :param integration_id: The one that was asked for.
    """
    integration = _bounded(Integration.from_json(_member(body, "integration")))
    if integration.id != integration_id:
        raise MalformedDataError("'integration' is another one than was asked for")
    return integration


def parse_sync_id(body: bytes) -> str:
    """
    Read the id of a sync that was started.

    :param body: The answer's.
    """
    sync_id = _member(body, "sync_id")
    if not isinstance(sync_id, str) or not sync_id:
        raise MalformedDataError("'sync_id' is missing or not a text")
    return _short("sync_id", sync_id)


def harmless(integrations: list[Integration], connection: FlokitConnection) -> list[Integration]:
    """
    Return integrations without secrets, and in the one free text without control characters (some databases refuse a
    NUL) and with no more than 2,000 characters.

    :param integrations: What FloKit told.
    :param connection: The settings, whose secrets are taken out.
    """
    name = connection.redact_name
    # One look through all names at once: a workspace may have ten thousand.
    odd = connection.is_repeated_in("\0".join(f"{i.id}\0{i.type}\0{i.status}" for i in integrations))
    if odd:
        integrations = [replace(i, id=name(i.id), type=name(i.type), status=name(i.status)) for i in integrations]
    return [_with_message(i, i.error_message, connection) if i.error_message else i for i in integrations]


def _with_message(integration: Integration, message: str, connection: FlokitConnection) -> Integration:
    # One character more tells that there are more.
    redacted = connection.redact_start(message, _ERROR_MESSAGE_LENGTH + 1)
    cleaned = cut(escaped(redacted), _ERROR_MESSAGE_LENGTH)
    return integration if cleaned == message else replace(integration, error_message=cleaned)


def _member(body: bytes, name: str) -> Any:
    # As UTF-8, which is what is searched for the API key; json.loads() would take UTF-16 and UTF-32 as well.
    data = json.loads(body.decode("utf-8-sig"))
    return data.get(name) if isinstance(data, dict) else None


def _bounded(integration: Integration) -> Integration:
    for name, text in (("id", integration.id), ("type", integration.type), ("status", integration.status)):
        _short(name, text)
    return integration


def _short(name: str, text: str) -> str:
    """Return a name that may go on into XComs and trigger rows."""
    if len(text) > _NAME_LENGTH or not text.isprintable():
        raise MalformedDataError(f"{name!r} is longer than {_NAME_LENGTH} characters or not printable")
    return text
