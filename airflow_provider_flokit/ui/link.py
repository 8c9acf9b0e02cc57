"""The link from a task to the page, at the integration that the task is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow.providers.common.compat.sdk import BaseOperatorLink, timezone

from airflow_provider_flokit.errors import FlokitError
from airflow_provider_flokit.gate.conditions import TEMPLATED, Conditions
from airflow_provider_flokit.ui import HAS_PAGE

if TYPE_CHECKING:
    from collections.abc import Mapping


class FlokitIntegrationLink(BaseOperatorLink):
    """Leads to the FloKit page. The worker makes it when a task ends or defers."""

    name = "FloKit integration"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return where the page shows what a task, rendered by now, is about."""
        fields = {name: getattr(operator, name, None) for name in (*TEMPLATED, "flokit_conn_id")}
        conditions = read_conditions(fields)
        if conditions is None:
            return "flokit/"
        (only,) = conditions.ids if len(conditions.ids) == 1 else ("",)
        query = "?" + urlencode({"q": conditions.types[0]}) if len(conditions.types) == 1 else ""
        return f"flokit/{query}#{anchor(conditions.conn_id, only)}"


LINKS = (FlokitIntegrationLink(),) if HAS_PAGE else ()
"""The extra links of the operator and the sensor."""


def anchor(conn_id: str, integration_id: str = "") -> str:
    """Return the name of an integration's place in the page, or of its connection's."""
    return "/".join(quote(part, safe="") for part in (conn_id, integration_id) if part)


def read_conditions(fields: Mapping[str, Any]) -> Conditions | None:
    """Return what a task waits for by its rendered fields or its trigger's arguments, None if they do not tell."""
    try:
        return Conditions.of(fields, owner="task", to_utc=timezone.convert_to_utc)
    except FlokitError:
        return None
