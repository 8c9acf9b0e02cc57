"""Looks for a secret in whatever a run leaves behind: texts, exceptions with their contexts and frames, objects."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import airflow_provider_flokit

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(airflow_provider_flokit.__file__).parent
SIMULATOR = PACKAGE / "simulator"
PIECE = 9
"""Characters at either end of a secret that are enough of it to be a leak."""


def forms_of(secret: str) -> set[str]:
    """Return what must not be found: the secret, its ends, its URL-encoded forms, and what base64 makes of it."""
    forms = {secret, secret[:PIECE], secret[-PIECE:], json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    for encode in (quote, quote_plus, lambda text: quote(text, safe="")):
        forms |= {encode(secret), encode(encode(secret)), encode(secret).replace("%2B", "%2b").replace("%2F", "%2f")}
    for encode_bytes in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            # Whatever stands around the secret, these characters of the base64 come from the secret alone.
            encoded = encode_bytes(b"\0" * before + secret.encode()).decode().rstrip("=")
            forms.add(encoded[2 + before : -2])
    return forms


def find(secret: str, text: str) -> list[str]:
    """Return the forms of a secret that a text holds, with a little of the text around them."""
    found = []
    for form in forms_of(secret):
        at = text.find(form)
        if at >= 0:
            found.append(f"{form!r} in …{text[max(at - 80, 0) : at + 120]!r}…")
    return found


class Lines(logging.Handler):
    """Keeps every record that is logged, as text, with its traceback and its arguments."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.lines.append(f"{self.format(record)} {record.args!r}")


@dataclass
class Evidence:
    """All that a run left behind, as texts to search."""

    texts: list[str] = field(default_factory=list)

    def add(self, thing: Any) -> None:
        """Add anything: an exception with all that hangs on it, else the thing's text, repr and JSON."""
        if isinstance(thing, BaseException):
            self.texts += _told_by(thing)
        else:
            self.texts += [str(thing), repr(thing)]

    def leaks(self, secret: str) -> list[str]:
        """Return where the secret was found."""
        return [leak for text in self.texts for leak in find(secret, text)]


def _told_by(error: BaseException) -> Iterator[str]:
    """Yield what an exception tells: its chain, also where Python would not print it, and its frames' variables."""
    chain: list[BaseException | None] = [error]
    seen: set[int] = set()
    while chain:
        link = chain.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        chain += [link.__cause__, link.__context__]
        yield from (str(link), repr(link), repr(link.args), repr(vars(link)), repr(getattr(link, "__notes__", [])))
        trace = link.__traceback__
        while trace is not None:
            file = Path(trace.tb_frame.f_code.co_filename)
            if file.is_relative_to(PACKAGE) and not file.is_relative_to(SIMULATOR):
                where = f"{file.name}:{trace.tb_lineno}"
                for name, value in trace.tb_frame.f_locals.items():
                    yield f"{where} {name} = {value!r}"
            trace = trace.tb_next
