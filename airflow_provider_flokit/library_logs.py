"""The HTTP libraries quote odd headers and cookies in their logs; a server may have put the API key there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_LOGGERS: Final = (
    "aiohttp.client",
    "aiohttp.internal",
    "urllib3.connection",
    "urllib3.connectionpool",
    "urllib3.response",
)


class RedactedLogs(logging.Filter):
    """
    Keeps secrets out of what the HTTP libraries log, until :meth:`end`.

    :param redact: Takes the secrets out of a text.
    """

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """
        Redact a record.

        :param record: What a library logs; its traceback, which would say the same again, is left out.
        """
        record.msg = self._redact(record.getMessage())
        record.args = None
        record.exc_info = None
        return True

    def end(self) -> None:
        """Leave the logs as they were."""
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self)
