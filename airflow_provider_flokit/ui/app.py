"""The FloKit page: who may see it, and its one route. Imported by the API server only."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlencode, urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import (
    AssetDetails,
    ConnectionDetails,
    DagAccessEntity,
    DagDetails,
)
from airflow.api_fastapi.core_api.security import GetUserDep  # noqa: TC002 - FastAPI reads it
from airflow.models.asset import AssetModel
from airflow.models.connection import Connection
from airflow.utils.session import create_session
from fastapi import FastAPI, HTTPException, Request, Response, status
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader
from sqlalchemy import or_, select

from airflow_provider_flokit import __version__
from airflow_provider_flokit.hooks.flokit import FlokitHook
from airflow_provider_flokit.ui.page import sections
from airflow_provider_flokit.ui.waits import read_waiting_tasks, read_watched_assets
from airflow_provider_flokit.ui.workspaces import look_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from airflow_provider_flokit.ui.waits import WaitingTask, WatchedAsset

_HERE: Final = Path(__file__).parent
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_NO_RIGHT: Final = "You have no right to read Airflow's connections, whose integrations are shown here."
_templates = Environment(loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)

app = FastAPI(title="FloKit integrations", docs_url=None, redoc_url=None, openapi_url=None)
app.mount("/static", StaticFiles(directory=_HERE / "static"))


@app.get("/")
def show(user: GetUserDep, q: str = "", sort: str = "status") -> Response:
    """Show the page: the rows that contain ``q``, in one of :data:`~airflow_provider_flokit.ui.page.SORTS`."""
    with create_session() as session:
        tasks, assets = read_waiting_tasks(session), read_watched_assets(session)
        conn_ids = _readable_connections(user, session, tasks, assets)
        tasks = _readable_tasks(user, session, [task for task in tasks if task.conn_id in conn_ids])
        assets = _readable_assets(user, [asset for asset in assets if asset.conn_id in conn_ids])
    # FloKit is asked only now: a slow answer holds up no connection to the database.
    found = sections(look_at(conn_ids), tasks, assets, query=q, sort=sort, now=datetime.now(UTC))
    ages = [each.age for each in found if each.age < math.inf]
    return _page(q=q, sort=sort, sections=found, age=max(ages, default=None))


@app.exception_handler(HTTPException)
def refuse(request: Request, error: HTTPException) -> Response:
    """Show why there is nothing to see; who is not logged in is led to the login."""
    if error.status_code == status.HTTP_401_UNAUTHORIZED and "text/html" in request.headers.get("accept", ""):
        back = urlencode({"next": str(request.url)})
        return RedirectResponse(f"../api/v2/auth/login?{back}", headers={"Cache-Control": "no-store"})
    return _page(error.status_code, refusal=str(error.detail))


def _page(status_code: int = status.HTTP_200_OK, **values: Any) -> Response:
    html = _templates.get_template("page.html").render(version=__version__, **values)
    return HTMLResponse(html, status_code, headers=_HEADERS)


def _readable_connections(
    user: Any, session: Session, tasks: Iterable[WaitingTask], assets: Iterable[WatchedAsset]
) -> set[str]:
    """Return the connections of our type that the user may read; those outside the database are known by their use."""
    used = {task.conn_id for task in tasks} | {asset.conn_id for asset in assets} | _connections_of_assets(session)
    ours = Connection.conn_type == FlokitHook.conn_type
    query = select(Connection.conn_id, Connection.conn_type).where(or_(ours, Connection.conn_id.in_(used)))
    types = {row.conn_id: row.conn_type for row in session.execute(query)}
    stored = {conn_id for conn_id, conn_type in types.items() if conn_type == FlokitHook.conn_type}
    manager = get_auth_manager()

    def may_read(conn_id: str) -> bool:
        return manager.is_authorized_connection(method="GET", details=ConnectionDetails(conn_id=conn_id), user=user)

    readable = {conn_id for conn_id in used - set(types) if may_read(conn_id)}
    if hasattr(manager, "get_authorized_connections"):  # Airflow 3.2 and later: it knows to which team each belongs
        readable |= stored & manager.get_authorized_connections(user=user, session=session)
    else:
        readable |= {conn_id for conn_id in stored if may_read(conn_id)}
    if not readable and not manager.is_authorized_connection(method="GET", user=user):
        raise HTTPException(status.HTTP_403_FORBIDDEN, _NO_RIGHT)
    return readable


def _connections_of_assets(session: Session) -> set[str]:
    uris = session.scalars(
        select(AssetModel.uri).where(AssetModel.uri.startswith("flokit://"), AssetModel.active.has())
    )
    return {unquote(urlsplit(uri).netloc) for uri in uris}


def _readable_tasks(user: Any, session: Session, tasks: list[WaitingTask]) -> list[WaitingTask]:
    manager = get_auth_manager()
    dag_ids = {task.dag_id for task in tasks}
    dag_ids &= manager.get_authorized_dag_ids(user=user, session=session) if dag_ids else set()
    readable = {
        dag_id
        for dag_id in dag_ids
        if manager.is_authorized_dag(
            method="GET", access_entity=DagAccessEntity.TASK_INSTANCE, details=DagDetails(id=dag_id), user=user
        )
    }
    return [task for task in tasks if task.dag_id in readable]


def _readable_assets(user: Any, assets: list[WatchedAsset]) -> list[WatchedAsset]:
    manager = get_auth_manager()
    return [
        asset
        for asset in assets
        if manager.is_authorized_asset(method="GET", details=AssetDetails(id=str(asset.id)), user=user)
    ]
