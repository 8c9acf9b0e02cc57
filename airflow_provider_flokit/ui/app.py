"""The FloKit page: its only route, and who may see what. Only the API server imports this module."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import (
    AssetDetails,
    ConnectionDetails,
    DagAccessEntity,
    DagDetails,
)
from airflow.api_fastapi.core_api.security import GetUserDep  # noqa: TC002 - FastAPI reads it
from airflow.models.connection import Connection
from airflow.utils.session import create_session
from fastapi import FastAPI, HTTPException, Request, Response, status
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader
from sqlalchemy import select

from airflow_provider_flokit import __version__
from airflow_provider_flokit.errors import escaped
from airflow_provider_flokit.gate.words import age, moment
from airflow_provider_flokit.hooks.flokit import FlokitHook
from airflow_provider_flokit.ui.waits import read_connections_of_assets, read_waiters
from airflow_provider_flokit.ui.workspaces import look_at, notes_on, rows_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from airflow_provider_flokit.ui.waits import Waiter

_HERE: Final = Path(__file__).parent
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
}
_NO_RIGHT: Final = "You have no right to read Airflow's connections, whose integrations are shown here."
_templates = Environment(
    loader=FileSystemLoader(_HERE),
    autoescape=True,
    finalize=lambda value: escaped(str(value)),  # shows invisible characters
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals |= {"version": __version__, "age": age, "moment": moment, "notes_on": notes_on}

app = FastAPI(title="FloKit integrations", docs_url=None, redoc_url=None, openapi_url=None)
app.mount("/static", StaticFiles(directory=_HERE / "static"))


@app.get("/")
def show(user: GetUserDep) -> Response:
    """Show the integrations of every connection that the user may read."""
    with create_session() as session:
        waiters = read_waiters(session)
        conn_ids = _readable_connections(user, session, waiters)
        waiters = _readable_waiters(user, session, waiters)
    # FloKit is asked after the session: a slow answer must not keep a database connection open.
    workspaces = [(look, rows_of(look, waiters)) for look in look_at(conn_ids)]
    return _page(workspaces=workspaces, now=datetime.now(UTC))


@app.exception_handler(HTTPException)
def refuse(request: Request, error: HTTPException) -> Response:
    """Show why the page is empty; redirect a user who is not logged in to the login."""
    if error.status_code == status.HTTP_401_UNAUTHORIZED and "text/html" in request.headers.get("accept", ""):
        back = urlencode({"next": str(request.url)})
        return RedirectResponse(f"../api/v2/auth/login?{back}", headers={"Cache-Control": "no-store"})
    return _page(error.status_code, refusal=str(error.detail))


def _page(status_code: int = status.HTTP_200_OK, **values: Any) -> Response:
    return HTMLResponse(_templates.get_template("page.html").render(values), status_code, headers=_HEADERS)


def _readable_connections(user: Any, session: Session, waiters: list[Waiter]) -> set[str]:
    """Return the FloKit connections that the user may read; those outside the database if something uses them."""
    manager = get_auth_manager()

    def may_read(conn_id: str) -> bool:
        return manager.is_authorized_connection(method="GET", details=ConnectionDetails(conn_id=conn_id), user=user)

    types = {row.conn_id: row.conn_type for row in session.execute(select(Connection.conn_id, Connection.conn_type))}
    stored = {conn_id for conn_id, conn_type in types.items() if conn_type == FlokitHook.conn_type}
    if hasattr(manager, "get_authorized_connections"):  # Airflow 3.2 and later; it respects teams
        readable = stored & manager.get_authorized_connections(user=user, session=session)
    else:
        readable = set(filter(may_read, stored))
    used = {waiter.conn_id for waiter in waiters} | read_connections_of_assets(session)
    readable |= set(filter(may_read, used - set(types)))
    if not readable and not manager.is_authorized_connection(method="GET", user=user):
        raise HTTPException(status.HTTP_403_FORBIDDEN, _NO_RIGHT)
    return readable


def _readable_waiters(user: Any, session: Session, waiters: list[Waiter]) -> list[Waiter]:
    """Return the assets that the user may read, and the tasks whose DAG and task instances the user may read."""
    manager = get_auth_manager()
    dags = {
        dag_id
        for dag_id in manager.get_authorized_dag_ids(user=user, session=session) & {each.dag_id for each in waiters}
        if manager.is_authorized_dag(
            method="GET", access_entity=DagAccessEntity.TASK_INSTANCE, details=DagDetails(id=dag_id), user=user
        )
    }
    assets = {
        asset_id
        for asset_id in {each.asset_id for each in waiters} - {""}
        if manager.is_authorized_asset(method="GET", details=AssetDetails(id=asset_id), user=user)
    }
    return [each for each in waiters if each.dag_id in dags or each.asset_id in assets]
