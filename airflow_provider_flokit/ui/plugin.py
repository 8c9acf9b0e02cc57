"""The plugin that puts the page into Airflow. Every component imports it, so it imports nothing that costs."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_flokit.ui import HAS_PAGE

_VIEW = {"name": "FloKit integrations", "href": "flokit/", "destination": "nav", "category": "browse"}


async def serve(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request, as ASGI says; the first one imports the app, which only the API server ever does."""
    from airflow_provider_flokit.ui.app import app

    await app(scope, receive, send)


class FlokitPlugin(AirflowPlugin):
    """The FloKit page under Browse. Without a ``url_route`` it opens by itself: links are dead in Airflow's iframe."""

    name = "FloKit"
    fastapi_apps = [{"name": name, "app": serve, "url_prefix": "/flokit"}] if HAS_PAGE else []
    # Relative to the UI's base, so that it also leads to an Airflow below a path of its server.
    external_views = [_VIEW] if HAS_PAGE else []
