"""The plugin that adds the page to Airflow. Every component of Airflow imports it, so its imports must be fast."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_flokit.ui import HAS_PAGE

_VIEW = {"name": "FloKit integrations", "href": "flokit/", "destination": "nav", "category": "browse"}


async def serve(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request as an ASGI app. The first request imports the real app; only the API server gets requests."""
    from airflow_provider_flokit.ui.app import app

    await app(scope, receive, send)


class FlokitPlugin(AirflowPlugin):
    """The FloKit page under Browse. It has no ``url_route``: Airflow would put it into an iframe, where links fail."""

    name = "FloKit"
    fastapi_apps = [{"name": name, "app": serve, "url_prefix": "/flokit"}] if HAS_PAGE else []
    # Relative to the UI's base, so that it also works if Airflow is below a path of its server.
    external_views = [_VIEW] if HAS_PAGE else []
