"""The FloKit page in Airflow's own UI, from Airflow 3.1.1 on. Only the API server imports more than plugin and link."""

from __future__ import annotations

from typing import Final

from airflow.providers.common.compat.version_compat import get_base_airflow_version_tuple

HAS_PAGE: Final = get_base_airflow_version_tuple() >= (3, 1, 1)
"""Whether this Airflow can show the page: 3.1.0 does not tell a page who the user is; older versions have no pages."""
