"""What the operator tells OpenLineage, if that provider is installed (the extra ``openlineage``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from logging import Logger

    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_flokit.models import SyncReceipt
    from airflow_provider_flokit.report import SyncReport


class TellsOpenLineage:
    """The methods that Airflow's OpenLineage provider calls after a task, in the process that ran it."""

    log: Any
    flokit_conn_id: str
    integration_id: str | None
    _receipt: SyncReceipt | None = None
    _report: SyncReport | None = None
    _failure: str | None = None

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:  # noqa: ARG002 - as called
        """
        Tell of the sync, see :func:`airflow_provider_flokit.lineage.openlineage_facets`.

        :param task_instance: Not needed.
        """
        from airflow_provider_flokit.outlets import with_stats

        skipped = self._receipt is not None and self._receipt.skipped
        if self._report is None:
            return self._openlineage_facets("skipped" if skipped else "requested")
        self._report = with_stats(self._report, self.flokit_conn_id, cast("Logger", self.log))
        return self._openlineage_facets("skipped" if skipped else "succeeded")

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any]:  # noqa: ARG002 - as called
        """
        Tell of the failure.

        :param task_instance: Not needed.
        """
        return self._openlineage_facets("failed")

    def _openlineage_facets(self, outcome: str) -> OperatorLineage[Any, Any]:
        from airflow_provider_flokit.lineage import openlineage_facets

        receipt = self._receipt
        return openlineage_facets(
            self.flokit_conn_id,
            receipt.integration_id if receipt else self.integration_id,
            self._report,
            outcome=outcome,
            sync_id=receipt.sync_id if receipt else None,
            failure=self._failure,
        )
