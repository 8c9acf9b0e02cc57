"""
Assets: the ``flokit://`` URI of an integration, ``flokit://CONNECTION/INTEGRATION``.

Airflow finds these functions through the provider's metadata. It calls them to check and normalise every ``flokit://``
URI, and to convert assets for OpenLineage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from airflow.providers.common.compat.sdk import Asset
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_flokit.errors import FlokitArgumentError, shown
from airflow_provider_flokit.gate.conditions import Checker
from airflow_provider_flokit.models import checked_id

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset as OpenLineageDataset

SCHEME = "flokit"


def flokit_asset(
    integration_id: str,
    *,
    flokit_conn_id: str = "flokit_default",
    name: str | None = None,
    extra: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Asset:
    """
    Return the asset that stands for the data of an integration; equal arguments give equal assets.

    :param integration_id: Id of the integration, e.g. ``int_01hx4j7stripe``.
    :param flokit_conn_id: Airflow connection of type ``flokit``; it stands for the workspace.
    :param name: Name of the asset. Default: ``CONNECTION/INTEGRATION``. Airflow 2 has no names.
    :param extra: The ``extra`` of the asset.
    :param kwargs: More arguments of Airflow 3's ``Asset``: ``watchers``, ``group`` ...
    :raises FlokitArgumentError: if an argument is wrong
    """
    path = _path("flokit_asset", flokit_conn_id, integration_id)
    if AIRFLOW_V_3_0_PLUS:
        kwargs["name"] = path if name is None else name  # must be ASCII, too
    return Asset(uri=f"{SCHEME}://{path}", extra=extra, **kwargs)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check a ``flokit://`` URI, and write it as :func:`flokit_asset` does."""
    if not uri.netloc or not uri.path.strip("/") or uri.query or uri.fragment:
        raise FlokitArgumentError(
            f"{shown(repr(uri.geturl()))} is no FloKit asset: its URI is flokit://CONNECTION/INTEGRATION, e.g. "
            f"flokit://flokit_default/int_01hx4j7stripe. flokit_asset() writes it."
        )
    return urlsplit(f"{SCHEME}://{_path('flokit:// URI', unquote(uri.netloc), _integration_id(uri))}")


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> OpenLineageDataset:
    """Return the dataset with the namespace ``flokit://CONNECTION`` and the integration's id as name."""
    from airflow.providers.common.compat.openlineage.facet import Dataset as OpenLineageDataset

    uri = urlsplit(asset.uri)
    return OpenLineageDataset(namespace=f"{SCHEME}://{uri.netloc}", name=_integration_id(uri))


def integration_of(asset: object) -> str | None:
    """Return the id of the integration that an asset stands for; None if it is not a FloKit asset."""
    if not isinstance(asset, Asset):
        return None
    uri = urlsplit(asset.uri)
    return _integration_id(uri) if uri.scheme == SCHEME else None


def _path(owner: str, conn_id: str, integration_id: str) -> str:
    """Check a connection and an integration, and write them as in a URI."""
    integration_id = checked_id(integration_id, f"{owner}: integration_id")
    conn_id = Checker(owner).text("flokit_conn_id", conn_id)
    return f"{quote(conn_id, safe='')}/{quote(integration_id, safe='')}"


def _integration_id(uri: SplitResult) -> str:
    return unquote(uri.path.removeprefix("/"))
