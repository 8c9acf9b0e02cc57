"""
The body of an answer, taken piece by piece and decompressed within a limit.

Decompressed here, not by requests or aiohttp: they inflate a whole piece before anybody can count it, and a piece of
64 KiB may hold 64 MiB, or far more if it was compressed twice.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from airflow_provider_flokit.errors import shown
from airflow_provider_flokit.steps import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

BODY_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of a decompressed answer; a larger one is refused. A workspace of 10,000 integrations needs about 2 MiB."""

PIECE: Final = 64 * 1024
"""Bytes to read at once."""

ACCEPT_ENCODING: Final = "gzip"
"""What requests ask for. Any other encoding, or several on top of each other, is refused."""

_NAME_LENGTH: Final = 40
"""Characters that the name of an encoding has at most."""

_GZIP: Final = 16 + zlib.MAX_WBITS


class Body:
    """
    A body that is being read.

    :param status: The answer's HTTP status.
    :param headers: The answer's headers, names in lower case.
    """

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self._status = status
        self._headers = headers
        self._problem = ""
        self._read = 0
        self._content = bytearray()
        encoding = headers.get("content-encoding", "").strip().lower()
        self._gzipped = encoding in ("gzip", "x-gzip")
        self._inflate = zlib.decompressobj(_GZIP)
        if not self._gzipped and encoding not in ("", "identity"):
            # Longer ones name no encoding, and may be cut in the middle of what must not be shown.
            named = f" is {shown(encoding)!r}, which" if len(encoding) <= _NAME_LENGTH else ""
            self._problem = f"its Content-Encoding{named} was not asked for"

    def take(self, piece: bytes) -> bool:
        """
        Take the next piece.

        :param piece: As it came, compressed or not.
        :return: whether there is any use in reading on
        """
        self._read += len(piece)
        if not self._problem:
            try:
                self._content += self._inflated(piece) if self._gzipped else piece
            except zlib.error:
                self._problem = "its gzip data is damaged"
        if max(self._read, len(self._content)) > BODY_LIMIT:
            self._problem = f"it is larger than {BODY_LIMIT // 1024 // 1024} MiB"
        return not self._problem

    def answer(self) -> Answer:
        """Return the answer, as far as its body could be used."""
        if self._gzipped and self._read and not self._problem and not self._inflate.eof:
            self._problem = "its gzip data is cut off"
        content = b"" if self._problem else bytes(self._content)
        return Answer(self._status, self._headers, content, self._problem)

    @property
    def is_cut_off(self) -> bool:
        """Whether less has come than was announced."""
        announced = self._headers.get("content-length", "")
        chunked = "transfer-encoding" in self._headers
        return announced.isdecimal() and not chunked and self._read < int(announced)

    def _inflated(self, piece: bytes) -> bytes:
        if self._inflate.eof:
            return b""
        # One byte too many is enough to know, and no piece can make more of itself.
        return self._inflate.decompress(piece, BODY_LIMIT + 1 - len(self._content))
