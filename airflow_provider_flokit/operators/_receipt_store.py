"""
Keep the receipt of a sync for the next tries of a task.

Airflow 3.3 and later have a task state store, which survives retries and lost workers. Before 3.3 nothing is kept, and
a retry starts from what FloKit shows. Airflow does not empty the store when a task ends or is cleared. So each entry
has the ``max_tries`` of its series of tries: a cleared task gets a higher number, and ignores the old entry.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_flokit.errors import FlokitPermanentError, FlokitSyncFailedError
from airflow_provider_flokit.models import SyncReceipt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import Context

_KEY: Final = "flokit_receipt"


class ReceiptStore:
    """The receipt in a task's state store."""

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")
        self._ti = context["ti"]
        self.available = self._store is not None

    def load(self) -> tuple[SyncReceipt | None, bool]:
        """Return the receipt of an earlier try of the same series, and whether FloKit had answered its request."""
        entry = self._store.get(_KEY) if self.available else None
        if entry is None or entry["series"] != self._ti.max_tries:
            return None, False
        return SyncReceipt.from_json(entry["receipt"]), entry["requested"]

    def keep(self, receipt: SyncReceipt, *, requested: bool) -> None:
        """Keep a receipt for the next try: once before the request, and once after its answer."""
        if self.available:
            entry = {"receipt": receipt.to_json(), "requested": requested, "series": self._ti.max_tries}
            self._store.set(_KEY, entry)

    def forget(self) -> None:
        """Forget the receipt: the outcome is known."""
        if self.available:
            self._store.delete(_KEY)

    @contextmanager
    def kept_for_the_next_try(self) -> Iterator[None]:
        """Run a block of the task; if it fails and no later try can use the receipt, forget it."""
        try:
            yield
        except (Exception, AirflowTaskTimeout) as error:  # AirflowTaskTimeout is not an Exception
            is_last = self._ti.try_number > self._ti.max_tries
            if is_last or isinstance(error, FlokitPermanentError | FlokitSyncFailedError):
                self.forget()
            raise
