"""The link from a task to its integration on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow.providers.common.compat.sdk import BaseOperatorLink, timezone

from airflow_provider_flokit.errors import FlokitError
from airflow_provider_flokit.gate.conditions import TEMPLATED, Conditions
from airflow_provider_flokit.ui import HAS_PAGE

if TYPE_CHECKING:
    from collections.abc import Mapping


class FlokitIntegrationLink(BaseOperatorLink):
    """A link to the FloKit page. The worker makes it when a task ends or defers."""

    name = "FloKit integration"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the page's address with the id or type of a rendered task's integration as filter."""
        conditions = read_conditions({name: getattr(operator, name, None) for name in (*TEMPLATED, "flokit_conn_id")})
        names = (*conditions.ids, *conditions.types) if conditions else ()
        return f"flokit/?{urlencode({'q': names[0]})}" if len(names) == 1 else "flokit/"


LINKS = (FlokitIntegrationLink(),) if HAS_PAGE else ()
"""The extra links of the operator and the sensor."""


def read_conditions(fields: Mapping[str, Any]) -> Conditions | None:
    """Read what a task waits for from its rendered fields or its trigger's arguments; None if that is not possible."""
    try:
        return Conditions.of(fields, owner="task", to_utc=timezone.convert_to_utc)
    except FlokitError:
        return None
