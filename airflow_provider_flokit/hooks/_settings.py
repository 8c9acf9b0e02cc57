"""From the connection that Airflow found to the settings of both hooks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import mask_secret

from airflow_provider_flokit.connection import FlokitConnection
from airflow_provider_flokit.errors import FlokitConfigError
from airflow_provider_flokit.redaction import proxy_passwords

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection


def undefined(conn_id: str) -> FlokitConfigError:
    """
    Say that Airflow has no such connection.

    :param conn_id: Its id.
    """
    return FlokitConfigError(
        f"Airflow connection {conn_id!r} is not defined. Add it with the type 'flokit' and a FloKit API key as "
        f"password, or name another one with flokit_conn_id.",
        undefined=True,
    )


def checked(conn_id: str, conn: Connection) -> FlokitConnection | FlokitConfigError:
    """
    Return the settings, or what is wrong; raised here, its traceback would lead to the connection's fields.

    :param conn_id: Its id.
    :param conn: What Airflow found.
    """
    extra: Any = conn.extra
    if isinstance(extra, str):
        try:
            extra = json.loads(extra) if extra.strip() else None
        except (ValueError, RecursionError):
            extra = ...
    if extra is not None and not isinstance(extra, dict):
        return FlokitConfigError(f"Airflow connection {conn_id!r}: extra is not a JSON object")
    try:
        return FlokitConnection.from_fields(
            conn_id=conn_id, password=conn.password, host=conn.host, schema=conn.schema, port=conn.port, extra=extra
        )
    except FlokitConfigError as error:
        return error.with_traceback(None)


def mask(connection: FlokitConnection) -> None:
    """
    Have Airflow mask the proxies' passwords in all logs, as it does with the API key.

    :param connection: The settings.
    """
    for password in proxy_passwords(connection.proxies.values()):
        mask_secret(password)
