"""What each answer means to both hooks: a value, or an error and its words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.errors import (
    FlokitAPIError,
    FlokitAuthenticationError,
    FlokitError,
    FlokitNotFoundError,
    FlokitPermissionError,
    FlokitRequestError,
    FlokitResponseError,
    FlokitSyncAlreadyRunningError,
)
from airflow_provider_flokit.simulator import Fault, Simulator, Sync

from .conftest import CALLS, CONN, failure

if TYPE_CHECKING:
    from .conftest import Connect, Hook


@pytest.mark.parametrize("status", [203, 204, 205, 206])
@pytest.mark.parametrize("body", [b"", b'{"integrations": []}'], ids=["empty", "a list"])
def test_undocumented_success_is_none(hook: Hook, sim: Simulator, connect: Connect, status: int, body: bytes) -> None:
    """Another success than FloKit's own is something else's answer, and repeated as every one that is not usable."""
    connect(retry_limit=2)
    sim.fail(Fault.answer(status, body), times=2)
    assert len(hook("list_integrations")) == 3
    assert len(sim.requests) == 3
    sim.fail(Fault.answer(status, body), times=None)
    assert f"HTTP {status}, but not the documented answer" in failure(hook, FlokitResponseError, "list_integrations")


@pytest.mark.parametrize("status", [300, 304])
def test_neither_success_nor_failure_is_final(hook: Hook, sim: Simulator, status: int) -> None:
    """A status that is neither success nor failure is not taken for success, nor repeated."""
    sim.fail(Fault.answer(status, "empty"))
    assert f"HTTP {status}" in failure(hook, FlokitRequestError, "list_integrations")
    assert len(sim.requests) == 1


@pytest.mark.parametrize("status", [201, 202])
def test_created_and_accepted_are_successes(hook: Hook, sim: Simulator, status: int) -> None:
    """A sync that was accepted with 201 or 202 was accepted."""
    sim.fail(Fault.answer(status, b'{"status": "ok", "sync_id": "sync_1"}'))
    assert hook("trigger_sync", "int_1") == "sync_1"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": "code", "message": "Said so."}', ": Said so. "),
        (b'{"error": "only a code"}', ": only a code. "),
        (b'{"message": ""}', ". "),
        (b'{"message": "   "}', ". "),
        (b'{"message": {"text": "nested"}}', ". "),
        (b'{"message": "two\\nlines\\u001b[31m"}', ": two lines\\x1b[31m. "),
        (b'{"message": "%s"}' % (b"x" * 10_000), f": {'x' * 499}…. "),
        (b"[]", ". "),
        (b"null", ". "),
        (b"<html>nginx</html>", ". "),
        (b"", ". "),
        (b"\xff\xfe\x00", ". "),
        (b"[" * 100_000, ". "),
    ],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.parametrize("status", [404, 503])
def test_what_flokit_says(hook: Hook, sim: Simulator, connect: Connect, status: int, body: bytes, said: str) -> None:
    """FloKit's own message is quoted on one line, if the body has one; any other body is survived."""
    connect(retry_limit=0)
    sim.fail(Fault.answer(status, body))
    with pytest.raises(FlokitError) as caught:
        hook("get_integration", "int_1")
    assert f": HTTP {status}{said}" in str(caught.value)


def test_echoed_key_is_redacted(hook: Hook, sim: Simulator) -> None:
    """A server that repeats the key in its message does not bring it into ours."""
    sim.fail(Fault.answer(400, json.dumps({"message": f"Bearer {sim.api_key} is odd"}).encode()))
    assert "Bearer *** is odd" in failure(hook, FlokitRequestError, "list_integrations")


def test_echoed_key_is_redacted_before_it_is_cut(hook: Hook, sim: Simulator) -> None:
    """A long message that is cut in the middle of the key does not show half of it."""
    sim.fail(Fault.answer(400, json.dumps({"message": f"{'x' * 490} {sim.api_key} is odd"}).encode()))
    assert "fk_" not in failure(hook, FlokitRequestError, "list_integrations")


def test_read_only_key(hook: Hook, sim: Simulator, connect: Connect) -> None:
    """A read-only key lists and reads; triggering says that it takes a read-write key."""
    connect(sim.read_only_key)
    assert len(hook("list_integrations")) == 3
    assert hook("get_integration", "int_1").id == "int_1"
    message = failure(hook, FlokitPermissionError, "trigger_sync", "int_1")
    assert "HTTP 403: This operation requires a read-write key." in message
    assert sim.syncs == []


@pytest.mark.parametrize(("call", "doing"), CALLS)
def test_wrong_key(hook: Hook, sim: Simulator, connect: Connect, call: tuple[str, ...], doing: str) -> None:
    """A wrong key is told at once, and not shown."""
    connect("not-the-key")
    message = failure(hook, FlokitAuthenticationError, *call)
    assert f"{doing} {CONN}: HTTP 401: Invalid or missing API key." in message
    assert "not-the-key" not in message
    assert {r.key for r in sim.requests} == {"invalid"}
    assert len(sim.requests) == 1


@pytest.mark.parametrize("call", ["get_integration", "trigger_sync"])
@pytest.mark.parametrize("body", ["json", "html", "empty"])
def test_unknown_id(hook: Hook, sim: Simulator, call: str, body: Any) -> None:
    """An unknown id is not found, whatever the body of the 404."""
    sim.unknown_id_body = body
    assert "HTTP 404" in failure(hook, FlokitNotFoundError, call, "int_9")
    assert len(sim.requests) == 1


@pytest.mark.parametrize("body", ["json", "html", "empty"])
def test_sync_running_already(hook: Hook, sim: Simulator, body: Any) -> None:
    """A 409 is an exception of its own: neither repeated nor taken for a failure of the API."""
    sim.configure(when_running="conflict", conflict_body=body)
    sim.set_state("int_1", sync=Sync(duration=60))
    hook("trigger_sync", "int_1")
    message = failure(hook, FlokitSyncAlreadyRunningError, "trigger_sync", "int_1")
    assert f"triggering a sync of int_1 {CONN}: HTTP 409" in message
    assert len(sim.requests) == 2


WRONG_LISTS: list[Any] = [
    {},
    [],
    None,
    "ok",
    {"data": []},
    {"integrations": None},
    {"integrations": {}},
    {"integrations": [None]},
    {"integrations": [{"id": "int_1", "type": "stripe"}]},
    {"integrations": [{"id": 1, "type": "stripe", "status": "connected"}]},
    {"integrations": [{"id": "int_1", "type": "stripe", "status": "connected", "last_synced_at": "soon"}]},
    {"integrations": [{"id": "int_1", "type": "stripe", "status": "connected"}] * 2},
]

WRONG_SINGLES: list[Any] = [
    {},
    [],
    {"integration": None},
    {"integration": []},
    {"integration": {"id": "int_1", "type": "stripe"}},
    {"integration": {"id": "int_2", "type": "stripe", "status": "connected"}},
    {"integration": {"id": "int_1", "type": "stripe", "status": "connected", "sync_stats": {}}},
    {"id": "int_1", "type": "stripe", "status": "connected"},
]

WRONG_SYNCS: list[Any] = [
    {"status": "ok"},
    {"sync_id": None},
    {"sync_id": ""},
    {"sync_id": 5},
    {"status": "ok", "data": {"sync_id": "sync_1"}},
    [],
    "sync_1",
]


@pytest.mark.parametrize(
    ("call", "document"),
    [
        *((("list_integrations",), document) for document in WRONG_LISTS),
        *((("get_integration", "int_1"), document) for document in WRONG_SINGLES),
        *((("trigger_sync", "int_1"), document) for document in WRONG_SYNCS),
    ],
)
def test_wrong_json(hook: Hook, sim: Simulator, connect: Connect, call: tuple[str, ...], document: Any) -> None:
    """JSON that is not the documented answer, or another integration's, is retried, then an error that says so."""
    connect(retry_limit=1)
    fault = Fault.answer(200, json.dumps(document).encode())
    sim.fail(fault)
    assert hook(*call)
    sim.fail(fault, times=2)
    message = failure(hook, FlokitResponseError, *call)
    assert "HTTP 200, but not the documented answer" in message
    assert "Check that the connection's API URL (host) is FloKit's API" in message
    assert len(sim.requests) == 4


def test_errors_do_not_chain_to_the_library(hook: Hook, sim: Simulator, connect: Connect) -> None:
    """The library's own exceptions, which may hold headers, are not shown with ours."""
    connect(retry_limit=0)
    for fault in (Fault.close_in_body(), Fault.answer(200, "html"), Fault.large_body(17)):
        sim.fail(fault)
        with pytest.raises(FlokitAPIError) as caught:
            hook("list_integrations")
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


def test_a_value_that_is_too_long_to_be_searched_is_not_shown(hook: Hook, sim: Simulator, connect: Connect) -> None:
    """Of an answer that is too large to look for the key in, no piece is quoted that may be a piece of the key."""
    connect(retry_limit=0)
    entry = {"id": "int_1", "type": "stripe", "status": "connected", "last_synced_at": "x" * 70_000}
    sim.fail(Fault.answer(200, json.dumps({"integrations": [entry]}).encode()))
    message = failure(hook, FlokitResponseError, "list_integrations")
    assert "not the documented answer: a value in it is too long to be shown. " in message
    assert "xxx" not in message
