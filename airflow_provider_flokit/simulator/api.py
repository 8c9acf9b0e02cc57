"""The documented API as a function from a request to an answer. No sockets, no faults."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from airflow_provider_flokit.simulator.rendering import (
    FORBIDDEN,
    JSON_TYPE,
    UNAUTHORIZED,
    error_body,
    to_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_flokit.simulator.clock import Clock
    from airflow_provider_flokit.simulator.keys import KeyRing
    from airflow_provider_flokit.simulator.records import KeyKind
    from airflow_provider_flokit.simulator.switches import BodyKind, RateLimit
    from airflow_provider_flokit.simulator.workspace import Workspace

LIST_PATH = "/v1/integrations"


@dataclass(frozen=True, slots=True)
class Call:
    """
    A request as far as the API looks at it.

    :param path: the path as it was sent, without the query.
    :param key: the kind of key that it carries.
    :param integration_id: the id in the path, decoded; None where there is none.
    :param action: what follows the id in the path, such as ``sync``; empty for nothing.
    """

    method: str
    path: str
    key: KeyKind
    idempotency_key: str | None
    integration_id: str | None
    action: str

    @classmethod
    def parse(cls, method: str, path: str, headers: Mapping[str, str], keys: KeyRing) -> Call:
        """
        Take a request apart.

        :param method: the HTTP method.
        :param path: the path as it was sent, without the query.
        :param headers: its headers; names in any case must be found.
        :param keys: the valid keys.
        """
        integration_id, action = None, ""
        if path.startswith(LIST_PATH + "/"):
            segment, _, action = path[len(LIST_PATH) + 1 :].partition("/")
            integration_id = unquote(segment)
        kind = keys.kind(headers.get("Authorization"))
        return cls(method, path, kind, headers.get("Idempotency-Key"), integration_id, action)


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What is sent back.

    :param note: what happened, in plain words, for the record.
    """

    status: int
    body: bytes
    note: str
    headers: Mapping[str, str] = field(default_factory=dict)


class RateLimiter:
    """
    Counts requests per window; a window begins with its first request.

    :param clock: the present moment in seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._begin = -math.inf
        self._count = 0
        self.refused = 0

    def wait_for(self, limit: RateLimit | None) -> float:
        """
        Count a request, and return the seconds after which it may be tried again; 0 when it is allowed.

        :param limit: requests and seconds; None for no limit.
        """
        if limit is None:
            return 0.0
        with self._lock:
            now = self._clock()
            if not 0 <= now - self._begin < limit[1]:
                self._begin, self._count = now, 0
            self._count += 1
            if self._count <= limit[0]:
                return 0.0
            self.refused += 1
            return self._begin + limit[1] - now


def serve(call: Call, workspace: Workspace, limiter: RateLimiter) -> Answer:
    """
    Carry a request out.

    :param call: the request.
    :param workspace: what it is about.
    :param limiter: counts it.
    """
    if wait := limiter.wait_for(workspace.switches.rate_limit):
        seconds = str(math.ceil(wait))
        note = f"over the rate limit: try again in {seconds} s"
        return _error("json", 429, "rate_limited", "Too many requests", note, {"Retry-After": seconds})
    if call.key not in ("read-write", "read-only"):
        return _error("json", 401, *UNAUTHORIZED, f"{call.key} API key")
    if call.path == LIST_PATH:
        if call.method != "GET":
            return _method_not_allowed("GET")
        body, note = workspace.read_list()
        return _ok(body, note)
    if call.integration_id is None or call.action not in ("", "sync"):
        return _error("json", 404, "not_found", "No such endpoint", "no such endpoint")
    if call.action == "sync":
        return _sync(call, workspace) if call.method == "POST" else _method_not_allowed("POST")
    if call.method != "GET":
        return _method_not_allowed("GET")
    found = workspace.read_one(call.integration_id)
    return _unknown(workspace, call.integration_id) if found is None else _ok(*found)


def _sync(call: Call, workspace: Workspace) -> Answer:
    if call.key == "read-only":
        return _error("json", 403, *FORBIDDEN, "the read-only key may not trigger syncs")
    integration_id = call.integration_id or ""
    outcome = workspace.request_sync(integration_id, call.idempotency_key)
    if outcome is None:
        return _unknown(workspace, integration_id)
    sync_id, note = outcome
    if sync_id is None:
        message = "A sync is already running for this integration"
        return _error(workspace.switches.conflict_body, 409, "conflict", message, note)
    return _ok(to_bytes({"status": "ok", "sync_id": sync_id}), note)


def _ok(body: bytes, note: str) -> Answer:
    return Answer(200, body, note, {"Content-Type": JSON_TYPE})


def _unknown(workspace: Workspace, integration_id: str) -> Answer:
    note = f"there is no integration {integration_id!r}"
    return _error(workspace.switches.unknown_id_body, 404, "not_found", "Integration not found", note)


def _method_not_allowed(allowed: str) -> Answer:
    message = f"Use {allowed} here"
    return _error("json", 405, "method_not_allowed", message, message, {"Allow": allowed})


def _error(
    kind: BodyKind, status: int, error: str, message: str, note: str, headers: Mapping[str, str] | None = None
) -> Answer:
    body, content_type = error_body(kind, status, error, message)
    return Answer(status, body, note, {**({"Content-Type": content_type} if content_type else {}), **(headers or {})})
