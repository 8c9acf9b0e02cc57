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

from airflow_provider_flokit.errors import FlokitPermanentError
from airflow_provider_flokit.models import MalformedDataError, SyncReceipt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from logging import Logger

    from airflow.providers.common.compat.sdk import Context

_KEY: Final = "flokit_receipt"


class ReceiptStore:
    """The receipt in a task's state store."""

    def __init__(self, context: Context, log: Logger) -> None:
        self._store: Any = context.get("task_state_store")
        self._ti = context["ti"]
        self._log = log

    @property
    def available(self) -> bool:
        """Whether this Airflow keeps anything across tries."""
        return self._store is not None

    def load(self) -> tuple[SyncReceipt | None, bool]:
        """
        Return the receipt of an earlier try of the same series, and whether FloKit had answered its request.

        If it had not, that try may have ended before or after the request.
        """
        data = self._store.get(_KEY) if self.available else None
        if not isinstance(data, dict) or data.get("series") != self._ti.max_tries:
            return None, False
        try:
            return SyncReceipt.from_json(data.get("receipt")), data.get("requested") is True
        except MalformedDataError as error:
            self._log.warning("The receipt of an earlier try cannot be read (%s): starting anew.", error)
            return None, False

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
        except FlokitPermanentError:
            self.forget()
            raise
        except (Exception, AirflowTaskTimeout):  # AirflowTaskTimeout is not an Exception
            if self._ti.try_number > self._ti.max_tries:
                self.forget()
            raise
