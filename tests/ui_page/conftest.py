"""Airflow's API server app with users of its simple auth manager."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.simulator import Simulator
from airflow_provider_flokit.ui import HAS_PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.testclient import TestClient

    from tests.ui_page.database import Database

collect_ignore_glob = [] if HAS_PAGE else ["test_page.py"]

USERS = {"ada": "admin", "otto": "op", "uma": "user", "vera": "viewer"}
SETTINGS = {
    "_AIRFLOW_PROCESS_CONTEXT": "server",
    "AIRFLOW__API__SECRET_KEY": "not-secret",
    "AIRFLOW__API_AUTH__JWT_SECRET": "not-secret-but-long-enough-for-a-signature-of-any-kind-to-be-made-of-it",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in USERS.items()),
}

Login = "Callable[..., TestClient]"


@pytest.fixture(scope="session")
def api_server(airflow_db: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Airflow's API server app, as the API server makes it: with plugins, auth manager and middlewares."""
    del airflow_db
    passwords = tmp_path_factory.mktemp("users") / "passwords.json"
    passwords.write_text(json.dumps({name: name for name in USERS}))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(passwords))
        app = importlib.import_module("airflow.api_fastapi.app")
        yield app.create_app(apps="core")
        app.purge_cached_app()


@pytest.fixture
def log_in(api_server: Any) -> Login:
    """Log in as a user, by the name, and return a browser without scripts; None: without a login."""
    from fastapi.testclient import TestClient

    def log_in(name: str | None = "ada") -> TestClient:
        client = TestClient(api_server, follow_redirects=False, headers={"Accept": "text/html"})
        if name is not None:
            login = client.post("/auth/token", json={"username": name, "password": name})
            client.cookies.set("_token", login.json()["access_token"])
        return client

    return log_in


@pytest.fixture
def flokit() -> Iterator[Simulator]:
    """A simulator that no connection of the environment leads to."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def database(airflow_db: Path) -> Iterator[Database]:
    """Airflow's database, emptied afterwards; what the page has seen of FloKit before is forgotten, too."""
    from airflow_provider_flokit.ui import workspaces
    from tests.ui_page.database import Database

    del airflow_db
    workspaces._looks.clear()
    database = Database()
    database.clear()  # other tests may have left rows behind
    yield database
    database.clear()
