"""Print, as JSON, what Airflow has stored of a connection's extra, and what the hook makes of it."""

from __future__ import annotations

import json
import sys

from airflow_provider_flokit.api.settings import FlokitSettings
from airflow_provider_flokit.hooks.flokit import FlokitHook


def main() -> None:
    """Read the connection that the command line names."""
    conn = FlokitHook.get_connection(sys.argv[1])
    settings = FlokitSettings.from_connection(sys.argv[1], conn)
    fields = ("base_url", "api_key", "timeout", "retry_limit", "verify", "proxies")
    read = {name: getattr(settings, name) for name in fields}
    json.dump({"extra": json.loads(conn.extra or "{}"), "settings": read}, sys.stdout)


if __name__ == "__main__":
    main()
