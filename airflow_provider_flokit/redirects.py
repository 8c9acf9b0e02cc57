"""Which redirects are followed: those within the same origin, as the API key is for no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urljoin, urlsplit

from airflow_provider_flokit.errors import FlokitRequestError, shown
from airflow_provider_flokit.steps import Send

if TYPE_CHECKING:
    from airflow_provider_flokit.answers import AnswerReader
    from airflow_provider_flokit.steps import Answer

LIMIT: Final = 5
"""Redirects in a row that are followed."""

_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
_KEEP_THE_METHOD: Final = frozenset({307, 308})
_URL_CHARACTERS: Final = "!$%&'()*+,/:;=?@[]~"


def is_redirect(answer: Answer) -> bool:
    """
    Tell whether an answer leads elsewhere.

    :param answer: The answer.
    """
    return answer.status in _STATUSES and bool(answer.headers.get("location"))


def redirected(request: Send, answer: Answer, reader: AnswerReader) -> Send | FlokitRequestError:
    """
    Return where a redirect leads, or why it is not followed; raised here, its traceback would lead to the answer.

    :param request: What was sent.
    :param answer: The redirect.
    :param reader: Words the errors, for the connection in use.
    """
    connection = reader.connection
    try:
        url = urljoin(f"{connection.base_url}{request.path}", answer.headers["location"])
        origin = _origin(url)
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        path = quote(path, safe=_URL_CHARACTERS, errors="surrogateescape")
    except ValueError:
        url = path = origin = ""
    what, todo = f"HTTP {answer.status} redirects", "Check the connection's API URL (host)"
    if not origin:
        return FlokitRequestError(reader.message(f"{what} to no valid URL", todo))
    if origin != _origin(connection.base_url):
        what += f" to another origin, {shown(connection.redact(origin))}; the key was not sent there"
        todo = "If that is the right address, set it as the connection's API URL (host)"
        return FlokitRequestError(reader.message(what, todo))
    if request.method != "GET" and answer.status not in _KEEP_THE_METHOD:
        return FlokitRequestError(reader.message(f"{what} a {request.method}", todo))
    if connection.redact(url) != url:
        return FlokitRequestError(reader.message(f"{what} to a URL that holds the API key", todo))
    return Send(request.method, path, request.headers)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or {'http': 80, 'https': 443}.get(parts.scheme)}"
