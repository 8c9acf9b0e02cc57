"""The HTTP libraries quote odd headers and cookies in their logs; a server may have put the API key there."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_REDACTED: Final = ("urllib3.connection", "urllib3.connectionpool", "urllib3.response")

_SILENCED: Final = ("aiohttp.client", "aiohttp.internal")
"""They tell of cookies that cannot be read, by pieces of them. Nothing here reads cookies."""

_redact: Final[ContextVar[Callable[[str], str] | None]] = ContextVar("flokit_redact", default=None)


class _Filter(logging.Filter):
    """Redacts what is logged inside of :func:`redacted`, and lets everything else pass as it is."""

    def filter(self, record: logging.LogRecord) -> bool:
        redact = _redact.get()
        if redact is None:
            return True
        record.msg = redact(record.getMessage())
        record.args = None
        record.exc_info = None  # its traceback says the same again
        return record.name not in _SILENCED


_FILTER: Final = _Filter()


@contextmanager
def redacted(redact: Callable[[str], str]) -> Iterator[None]:
    """
    Keep secrets out of what the HTTP libraries log of a request of this package's, and of no other.

    :param redact: Takes the secrets out of a text.
    """
    for name in (*_REDACTED, *_SILENCED):
        logging.getLogger(name).addFilter(_FILTER)  # once, however often it is called
    token = _redact.set(redact)
    try:
        yield
    finally:
        _redact.reset(token)
