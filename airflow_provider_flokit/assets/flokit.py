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
    integration_id = checked_id(integration_id, "flokit_asset: integration_id")
    flokit_conn_id = Checker("flokit_asset").text("flokit_conn_id", flokit_conn_id)
    if any(not hasattr(watcher, "trigger") for watcher in kwargs.get("watchers", ())):
        raise FlokitArgumentError(
            "flokit_asset: watchers holds a trigger where a watcher is wanted: "
            "AssetWatcher(name=..., trigger=FlokitSyncedTrigger(...))."
        )
    path = f"{_quoted(flokit_conn_id)}/{_quoted(integration_id)}"
    if AIRFLOW_V_3_0_PLUS:
        kwargs["name"] = path if name is None else name  # must be ASCII, too
    return Asset(uri=f"{SCHEME}://{path}", extra=extra, **kwargs)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Check and normalise a ``flokit://`` URI; Airflow calls it for every asset.

    :param uri: The parts of the URI.
    :return: the parts of the URI as :func:`flokit_asset` writes it
    :raises ValueError: if it is not exactly a connection and one integration
    """
    if not uri.netloc or not uri.path.strip("/") or uri.query or uri.fragment:
        raise FlokitArgumentError(
            f"{shown(repr(uri.geturl()))} is no FloKit asset: its URI is flokit://CONNECTION/INTEGRATION, e.g. "
            f"flokit://flokit_default/int_01hx4j7stripe. flokit_asset() writes it."
        )
    conn_id = Checker("flokit:// URI").text("connection", unquote(uri.netloc))
    integration_id = checked_id(_unquoted(uri.path))
    return SplitResult(SCHEME, _quoted(conn_id), f"/{_quoted(integration_id)}", "", "")


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> OpenLineageDataset:
    """
    Convert an asset to an OpenLineage dataset.

    :param asset: An asset with a ``flokit://`` URI.
    :param lineage_context: Not used.
    :return: the dataset with the namespace ``flokit://CONNECTION`` and the integration's id as name
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset as OpenLineageDataset

    parts = urlsplit(asset.uri)
    return OpenLineageDataset(namespace=f"{SCHEME}://{parts.netloc}", name=_unquoted(parts.path))


def integration_of(asset: object) -> str | None:
    """
    Return the id of the integration that an asset stands for; None if it is not a FloKit asset.

    :param asset: Anything that may be an outlet.
    """
    if not isinstance(asset, Asset):
        return None
    parts = urlsplit(asset.uri)
    return _unquoted(parts.path) if parts.scheme == SCHEME else None


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _unquoted(path: str) -> str:
    return unquote(path.removeprefix("/"))
