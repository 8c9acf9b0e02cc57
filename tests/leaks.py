"""Looks for a secret in whatever a run leaves behind: texts, objects, exceptions with all that they hang on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def forms_of(secret: str) -> set[str]:
    """Return what must not be found: the secret, percent-encoded too, and its beginning, as a cut would leave it."""
    return {secret, quote(secret, safe=""), secret[:12]}


def texts_of(thing: Any) -> Iterator[str]:
    """Yield what a thing shows of itself; an exception also its chain, where Python would not print it either."""
    yield from (str(thing), repr(thing))
    if isinstance(thing, BaseException):
        yield from (repr(thing.args), repr(vars(thing)), repr(getattr(thing, "__notes__", [])))
        for link in (thing.__cause__, thing.__context__):
            if link is not None:
                yield from texts_of(link)


def find(secret: str, things: Iterable[Any]) -> list[str]:
    """Return the texts that hold a secret."""
    return [text for thing in things for text in texts_of(thing) if any(form in text for form in forms_of(secret))]
