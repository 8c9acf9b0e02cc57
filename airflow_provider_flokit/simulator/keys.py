"""The API keys of a simulated workspace: read-write and read-only, and rotation that kills one at once."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator.records import KeyKind

READ_WRITE_KEY = "fk_rw_simulator"
READ_ONLY_KEY = "fk_ro_simulator"


class KeyRing:
    """
    The keys that are valid now.

    :param read_write: lists, reads and triggers syncs.
    :param read_only: lists and reads.
    """

    def __init__(self, read_write: str = READ_WRITE_KEY, read_only: str = READ_ONLY_KEY) -> None:
        if not read_write or not read_only or read_write == read_only:
            msg = "The read-write and the read-only key must be two different, non-empty texts"
            raise ValueError(msg)
        self.read_write = read_write
        self.read_only = read_only
        self._first = read_write
        self._rotations = 0

    def rotate(self, new_key: str | None = None) -> str:
        """
        Replace the read-write key; the old one is invalid from now on.

        :param new_key: the new key; by default one that was never used before.
        """
        self._rotations += 1
        new_key = new_key or f"{self._first}_{self._rotations + 1}"
        if new_key == self.read_only:
            msg = "The read-write key must differ from the read-only key"
            raise ValueError(msg)
        self.read_write = new_key
        return new_key

    def kind(self, authorization: str | None) -> KeyKind:
        """
        Say what kind of key a request carried.

        :param authorization: its ``Authorization`` header.
        """
        scheme, _, key = (authorization or "").partition(" ")
        key = key.strip()
        if not authorization or (scheme.lower() == "bearer" and not key):
            return "missing"
        if scheme.lower() != "bearer":
            return "invalid"
        sent = key.encode()
        if hmac.compare_digest(sent, self.read_write.encode()):
            return "read-write"
        return "read-only" if hmac.compare_digest(sent, self.read_only.encode()) else "invalid"
