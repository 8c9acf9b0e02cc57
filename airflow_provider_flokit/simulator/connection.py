"""A simulator's address in the forms in which Airflow takes a connection from the environment."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

ENVIRONMENT_VARIABLE = "AIRFLOW_CONN_FLOKIT_DEFAULT"


class Connectable:
    """What has a host, a port and an API key, and so can be the target of an Airflow connection."""

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        raise NotImplementedError

    @property
    def host(self) -> str:
        """The address it listens on."""
        raise NotImplementedError

    @property
    def port(self) -> int:
        """The port it listens on."""
        raise NotImplementedError

    @property
    def api_key(self) -> str:
        """The read-write key."""
        raise NotImplementedError

    def connection_uri(self, api_key: str | None = None, /, **extra: Any) -> str:
        """
        Return the Airflow connection to it as a URI.

        :param api_key: default the read-write key.
        :param extra: the connection's extra, such as ``timeout=5``: texts become query parameters, and if
            there is anything else, all of it is written as JSON, which keeps its types.
        """
        query = extra if all(isinstance(value, str) for value in extra.values()) else {"__extra__": json.dumps(extra)}
        uri = f"flokit://:{quote(api_key or self.api_key, safe='')}@{self.host}:{self.port}/{self.scheme}"
        return f"{uri}?{urlencode(query)}" if query else uri

    def connection_json(self, api_key: str | None = None, /, **extra: Any) -> str:
        """
        Return the Airflow connection to it as JSON.

        :param api_key: default the read-write key.
        :param extra: the connection's extra, such as ``timeout=5``.
        """
        connection = {
            "conn_type": "flokit",
            "host": f"{self.scheme}://{self.host}:{self.port}",
            "password": api_key or self.api_key,
            "extra": extra,
        }
        return json.dumps(connection)
