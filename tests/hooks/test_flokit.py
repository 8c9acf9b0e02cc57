"""Both hooks against the simulator, over real HTTP: the same calls, the same answers, the same errors."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import socket
import time
import uuid
import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import airflow.providers.common.compat.sdk as airflow_sdk
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_2_PLUS

from airflow_provider_flokit import get_provider_info
from airflow_provider_flokit.connection import FlokitConnection
from airflow_provider_flokit.errors import (
    FlokitAmbiguousTypeError,
    FlokitAPIError,
    FlokitArgumentError,
    FlokitAuthenticationError,
    FlokitConfigError,
    FlokitError,
    FlokitNotFoundError,
    FlokitPermissionError,
    FlokitResponseError,
    FlokitServerError,
    FlokitUnreachableError,
)
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook, FlokitHook
from airflow_provider_flokit.models import Integration, IntegrationStatus
from airflow_provider_flokit.simulator import Fault, Simulator
from airflow_provider_flokit.snapshot import Snapshot
from airflow_provider_flokit.transport import proxy_for

from .conftest import CALLS, CONN, LIST, ONE, SYNC, failure

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Connect, Hook, Pauses


# Calls that work


def test_list_integrations(hook: Hook, sim: Simulator) -> None:
    """All integrations are listed, without statistics."""
    found = hook("list_integrations")
    assert [(i.id, i.type, i.status, i.error_message) for i in found] == [
        ("int_1", "stripe", "connected", None),
        ("int_2", "adjust", "connected", None),
        ("int_3", "stripe", "error", "Token expired"),
    ]
    assert all(i.sync_stats is None for i in found)
    assert found[0].last_synced_at == sim.integration("int_1").last_synced_at
    assert [(r.method, r.path, r.key) for r in sim.requests] == [("GET", LIST, "read-write")]


def test_empty_workspace(hook: Hook, flokit: Simulator) -> None:
    """A workspace without integrations is an empty list."""
    assert hook("list_integrations") == []
    assert len(flokit.requests) == 1


def test_get_integration(hook: Hook, sim: Simulator) -> None:
    """One integration is read, with its statistics."""
    found = hook("get_integration", "int_1")
    assert isinstance(found, Integration)
    assert (found.id, found.status) == ("int_1", IntegrationStatus.CONNECTED)
    assert found.sync_stats is not None
    assert found.sync_stats.events_total == 1000
    assert [(r.method, r.path) for r in sim.requests] == [("GET", ONE)]


def test_find_integration(hook: Hook, sim: Simulator) -> None:
    """The one integration of a type is found in the list."""
    assert hook("find_integration", "adjust").id == "int_2"
    assert [(r.method, r.path) for r in sim.requests] == [("GET", LIST)]


def test_find_integration_of_an_ambiguous_type(hook: Hook, sim: Simulator) -> None:
    """If several have the type, the error lists their ids and says what to do."""
    message = failure(hook, FlokitAmbiguousTypeError, "find_integration", "stripe")
    assert message == (
        f"2 FloKit integrations have the type 'stripe' {CONN}: int_1, int_3. Say which one with integration_id."
    )
    assert len(sim.requests) == 1


@pytest.mark.parametrize("wanted", ["adapty", "Stripe", "stripe2"])
@pytest.mark.usefixtures("sim")
def test_find_integration_of_a_missing_type(hook: Hook, wanted: str) -> None:
    """If none has the type, the error lists what there is."""
    message = failure(hook, FlokitNotFoundError, "find_integration", wanted)
    assert message == (
        f"No FloKit integration has the type '{wanted}' {CONN}. The workspace has: int_1 (stripe), int_2 (adjust), "
        "int_3 (stripe)."
    )


@pytest.mark.parametrize("kind", ["revenuecat", 5], ids=["of another type", "of no type"])
def test_find_integration_beside_a_malformed_one(hook: Hook, sim: Simulator, kind: Any) -> None:
    """An integration that FloKit describes wrongly is no reason to fail for another one, as in a wait."""
    sim.add_integration("int_4", kind, last_synced_at="soon")
    assert hook("find_integration", "adjust").id == "int_2"
    assert "int_4" in failure(hook, FlokitResponseError, "list_integrations")


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("adjust", "adjust"), ("adapty", "adapty"), (5, "adapty")],
    ids=["maybe a second one", "maybe the one", "of no type, maybe the one"],
)
def test_find_integration_that_may_be_the_malformed_one(
    hook: Hook, sim: Simulator, connect: Connect, kind: Any, wanted: str
) -> None:
    """What may be the one that is looked for is asked for again, and told as malformed, not as missing."""
    connect(retry_limit=1)
    sim.add_integration("int_4", kind, last_synced_at="soon")
    assert "integration int_4: " in failure(hook, FlokitResponseError, "find_integration", wanted)
    assert len(sim.requests) == 2


@pytest.mark.parametrize("kind", ["stripe", 5], ids=["of the type", "of no type"])
def test_two_are_too_many_whatever_a_malformed_one_is(hook: Hook, sim: Simulator, kind: Any) -> None:
    """No repeat would make two of a type one."""
    sim.add_integration("int_4", kind, last_synced_at="soon")
    assert "int_1, int_3" in failure(hook, FlokitAmbiguousTypeError, "find_integration", "stripe")
    assert len(sim.requests) == 1
    seen = hook("observe", ())
    with pytest.raises(FlokitAmbiguousTypeError):
        seen.only_one("stripe", "flokit_default")


@pytest.mark.parametrize("wanted", ["", " ", "None", None, 5, ["stripe"], "['stripe']", "stripe\n", "str\x00ipe"])
def test_find_integration_of_what_is_no_type(hook: Hook, sim: Simulator, wanted: Any) -> None:
    """A type that is none is refused by the parameter's name, before any request."""
    assert "integration_type" in failure(hook, FlokitArgumentError, "find_integration", wanted)
    assert sim.requests == []


@pytest.mark.usefixtures("flokit")
def test_find_integration_in_an_empty_workspace(hook: Hook) -> None:
    """An empty workspace is told as such."""
    assert "The workspace has: no integrations at all." in failure(
        hook, FlokitNotFoundError, "find_integration", "stripe"
    )


def test_trigger_sync(hook: Hook, sim: Simulator) -> None:
    """Triggering starts one sync, with an Idempotency-Key made up for it, and returns its id."""
    sync_id = hook("trigger_sync", "int_1")
    assert [(run.sync_id, run.integration_id) for run in sim.syncs] == [(sync_id, "int_1")]
    assert [(r.method, r.path) for r in sim.requests] == [("POST", SYNC)]
    assert uuid.UUID(sim.requests[0].idempotency_key).version == 4
    hook("trigger_sync", "int_1")
    assert sim.requests[0].idempotency_key != sim.requests[1].idempotency_key


def test_trigger_sync_with_a_key_of_ones_own(hook: Hook, sim: Simulator) -> None:
    """The given Idempotency-Key is sent, so a repeat with it starts nothing new."""
    first = hook("trigger_sync", "int_1", idempotency_key="run-2024-03-15 #1")
    assert hook("trigger_sync", "int_1", "run-2024-03-15 #1") == first
    assert [r.idempotency_key for r in sim.requests] == ["run-2024-03-15 #1"] * 2
    assert len(sim.syncs) == 1


@pytest.mark.parametrize(
    "key", ["ключ", "line\nbreak", "a\x00", "\x7f", " lead", "trail ", " ", "", 0, False, 5, b"x", "x" * 256]
)
def test_idempotency_key_that_no_header_can_carry(hook: Hook, sim: Simulator, key: Any) -> None:
    """A key that a header cannot carry as it is, is refused before any request."""
    assert "idempotency_key" in failure(hook, FlokitArgumentError, "trigger_sync", "int_1", key)
    assert sim.requests == []


@pytest.mark.parametrize(("method", "call"), [("GET", "list_integrations"), ("POST", "trigger_sync")])
def test_headers(hook: Hook, sim: Simulator, method: str, call: str) -> None:
    """Every request says who asks and what it accepts; only a POST carries an Idempotency-Key."""
    hook(call, *(["int_1"] if method == "POST" else []))
    (request,) = sim.requests
    assert request.method == method
    assert request.headers["accept"] == "application/json"
    assert request.headers["user-agent"].startswith("airflow-provider-flokit/")
    assert ("idempotency-key" in request.headers) is (method == "POST")


@pytest.mark.parametrize("form", ["Z", "+00:00", "fraction", "naive", "seconds"])
def test_timestamps_of_every_kind(hook: Hook, sim: Simulator, form: Any) -> None:
    """However FloKit writes its times, they are read as the same UTC moment."""
    sim.timestamp_format = form
    sim.set_state("int_1", last_synced_at="2024-03-15T13:00:00Z")
    expected = datetime(2024, 3, 15, 13, tzinfo=UTC)
    assert hook("get_integration", "int_1").last_synced_at == expected
    assert hook("list_integrations")[0].last_synced_at == expected


@pytest.mark.parametrize("missing", ["null", "absent"])
def test_never_synced(hook: Hook, sim: Simulator, missing: Any) -> None:
    """Whether FloKit writes null or nothing for what there is not, it is None."""
    sim.configure(never_synced=missing, no_error=missing)
    sim.set_state("int_1", last_synced_at=None)
    found = hook("get_integration", "int_1")
    assert (found.last_synced_at, found.error_message) == (None, None)


@pytest.mark.parametrize("integration_id", ["int-1", "Ünï", "50%", "a&b=c", "a:b@c", "a+b", "%2e%2e", "-", "x" * 256])
def test_id_is_one_quoted_segment(hook: Hook, sim: Simulator, integration_id: str) -> None:
    """An odd but harmless id reaches FloKit as exactly that id, as one segment of the path."""
    sim.add_integration(integration_id, "warehouse")
    assert hook("get_integration", integration_id).id == integration_id
    hook("trigger_sync", integration_id)
    assert [r.integration_id for r in sim.requests] == [integration_id] * 2
    assert [r.path.count("/") for r in sim.requests] == [3, 4]
    assert len(sim.syncs) == 1


@pytest.mark.parametrize(
    "integration_id",
    [
        "",
        " ",
        ".",
        "..",
        "../int_1",
        "int_1/..",
        "int..1",
        "int_1/sync",
        "/",
        "int_1?x=1",
        "int_1#x",
        "int\\1",
        "int 1",
        "int_1\n",
        "\tint_1",
        "int\x001",
        "int\x7f1",
        "int\u200b1",
        "int\u00a01",
        "int\ud800",
        "None",
        "null",
        "x" * 257,
        None,
        5,
        b"int_1",
        ["int_1"],
    ],
)
@pytest.mark.parametrize("call", ["get_integration", "trigger_sync"])
def test_id_that_is_none(hook: Hook, sim: Simulator, call: str, integration_id: Any) -> None:
    """An id that could lead elsewhere, or is none, is refused before any request."""
    assert failure(hook, FlokitArgumentError, call, integration_id).startswith("integration_id ")
    assert sim.requests == []


def test_id_that_is_none_in_a_look(hook: Hook, sim: Simulator) -> None:
    """The same holds for ids that a wait asks for."""
    with contextlib.suppress(FlokitArgumentError):
        assert "a/b" in hook("observe", ["a/b"]).unread
    assert [r.path for r in sim.requests] in ([], [LIST])


# Failures that are retried


@pytest.mark.parametrize("retry_limit", [None, 0, 1, "3"])
def test_retry_limit(hook: Hook, sim: Simulator, connect: Connect, retry_limit: int | str | None) -> None:
    """There are as many attempts after the first as the connection's retry_limit says, by default 4."""
    connect(**({} if retry_limit is None else {"retry_limit": retry_limit}))
    sim.fail(500, times=None)
    failure(hook, FlokitServerError, "list_integrations")
    assert len(sim.requests) == 1 + (4 if retry_limit is None else int(retry_limit))


@pytest.mark.parametrize(
    "fault",
    [
        Fault.answer(502, takes_effect=True),
        Fault.drop_after(),
        Fault.close_in_headers(),
        Fault.close_in_body(),
        Fault.truncated_body(),
        Fault.drop(),
        Fault.answer(503),
    ],
    ids=lambda fault: fault.name,
)
def test_one_idempotency_key_for_all_attempts(hook: Hook, sim: Simulator, fault: Fault) -> None:
    """However often the POST has to be repeated, all attempts carry one key, and one sync is started."""
    sim.fail(fault, times=3)
    sync_id = hook("trigger_sync", "int_1")
    assert len(sim.requests) == 4
    assert len({r.idempotency_key for r in sim.requests}) == 1
    assert [run.sync_id for run in sim.syncs] == [sync_id]


# Retry-After


@pytest.mark.parametrize(
    ("fault", "at_least", "at_most"),
    [
        (Fault.rate_limited(7), 7, 7.1),
        (Fault.rate_limited(300), 300, 300.1),
        (Fault.rate_limited(http_date_in=90), 88, 91),
        (Fault.answer(503, headers={"Retry-After": "20"}), 20, 20),
        (Fault.rate_limited(0), 0.001, 0.07),
        (Fault.rate_limited(None), 0.001, 0.07),
        (Fault.rate_limited("soon"), 0.001, 0.07),
        (Fault.rate_limited("-5"), 0.001, 0.07),
        (Fault.rate_limited(http_date_in=-90), 0.001, 0.07),
    ],
)
@pytest.mark.parametrize("skew", [0.0, 5000.0, -5000.0])
def test_retry_after(
    hook: Hook, sim: Simulator, pauses: Pauses, fault: Fault, at_least: float, at_most: float, skew: float
) -> None:
    """Retry-After, in seconds or as a date by the server's own clock, is the pause, give or take the spread."""
    sim.clock_skew = skew
    sim.fail(fault)
    assert len(hook("list_integrations")) == 3
    (pause,) = pauses.seconds
    assert at_least <= pause <= at_most


def test_retry_after_is_kept_on_the_error(hook: Hook, sim: Simulator, connect: Connect) -> None:
    """The error knows how long FloKit asked to wait."""
    connect(retry_limit=0)
    sim.fail(Fault.rate_limited(12))
    with pytest.raises(FlokitAPIError) as caught:
        hook("list_integrations")
    assert caught.value.retry_after == 12.0


def test_backoff_grows(hook: Hook, sim: Simulator, pauses: Pauses, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses double from attempt to attempt, with jitter."""
    monkeypatch.setattr("airflow_provider_flokit.retry.BACKOFF_BASE", 1.0)
    sim.fail(500, times=4)
    hook("list_integrations")
    assert len(pauses.seconds) == 4
    for pause, longest in zip(pauses.seconds, [1, 2, 4, 8], strict=True):
        assert longest / 2 <= pause <= longest


# A look at the workspace


def test_observe(hook: Hook, sim: Simulator) -> None:
    """A look reads the list once and tells the server's time."""
    sim.clock_skew = 5000
    found = hook("observe", ["int_1", "int_2"])
    assert isinstance(found, Snapshot)
    assert set(found.integrations) == {"int_1", "int_2", "int_3"}
    assert (found.missing, found.unread) == (frozenset(), {})
    assert abs(found.at - datetime.now(tz=UTC) - timedelta(seconds=5000)) < timedelta(seconds=5)
    assert [r.path for r in sim.requests] == [LIST]


def test_observe_without_a_date(hook: Hook, sim: Simulator) -> None:
    """Where the server tells no time, it is this machine's."""
    sim.configure(send_date=False, clock_skew=5000)
    assert abs(hook("observe", []).at - datetime.now(tz=UTC)) < timedelta(seconds=5)


def test_unlisted_id_is_read_singly(hook: Hook, sim: Simulator) -> None:
    """An id that the list does not hold is read singly before it is called missing."""
    sim.fail(Fault.wrong_shape({"integrations": []}), path=LIST)
    found = hook("observe", ["int_1", "int_9"])
    assert set(found.integrations) == {"int_1"}
    assert found.missing == {"int_9"}
    assert found.covers(["int_1", "int_9"])
    assert not found.covers(["int_2"])
    assert [r.path for r in sim.requests] == [LIST, ONE, f"{LIST}/int_9"]


def test_unlisted_id_that_cannot_be_read(hook: Hook, sim: Simulator) -> None:
    """If an unlisted id cannot be read, it is told with the reason, not called missing; the others are there."""
    sim.fail(503, path=f"{LIST}/int_8", times=None)
    sim.fail(403, path=f"{LIST}/int_9", times=None)
    found = hook("observe", ["int_8", "int_9", "int_1"])
    assert found.missing == frozenset()
    assert {i: type(unread.error) for i, unread in found.unread.items()} == {
        "int_8": FlokitServerError,
        "int_9": FlokitPermissionError,
    }
    assert found.covers(["int_8", "int_9", "int_1"])
    assert "int_1" in found.integrations


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (2, 3)])
def test_retries_of_a_look(hook: Hook, sim: Simulator, retries: int, attempts: int) -> None:
    """A look is repeated only as often as its caller says: a wait looks again anyway."""
    sim.fail(503, times=None)
    failure(hook, FlokitServerError, "observe", [], retries=retries)
    assert len(sim.requests) == attempts


@pytest.mark.parametrize("entered", [False, True])
def test_key_rotated_between_two_looks(hook: Hook, sim: Simulator, connect: Connect, *, entered: bool) -> None:
    """A key rotated in the middle of a wait, in FloKit and in Airflow: the next look re-reads the connection."""
    look = ("observe", ["int_1"])
    first, _, second, third = hook.in_a_row(look, lambda: connect(sim.rotate_key()), look, look, entered=entered)
    assert set(first.integrations) == set(second.integrations) == set(third.integrations)
    assert [(r.status, r.key) for r in sim.requests] == [
        (200, "read-write"),
        (401, "invalid"),
        (200, "read-write"),
        (200, "read-write"),
    ]


def test_key_rotated_within_a_look(hook: Hook, sim: Simulator, connect: Connect) -> None:
    """A 401 on the single read of an unlisted id re-reads the connection too; the look is taken anew."""
    sim.fail(401, path=f"{LIST}/int_9")
    found = hook.in_a_row(("observe", []), lambda: connect(sim.read_only_key), ("observe", ["int_9"]))[-1]
    assert found.missing == {"int_9"}
    assert [(r.status, r.key) for r in sim.requests[1:]] == [
        (200, "read-write"),
        (401, "read-write"),
        (200, "read-only"),
        (404, "read-only"),
    ]


def test_moved_to_another_host(hook: Hook, sim: Simulator, other: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 401 finds a new address in the connection as well, even if the key stayed the same."""

    def move() -> None:
        sim.rotate_key()
        monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", other.connection_uri())

    found = hook.in_a_row(("observe", []), move, ("observe", []))[-1]
    assert set(found.integrations) == {"int_1"}
    assert len(other.requests) == 1


def test_dead_key_is_final(hook: Hook, sim: Simulator) -> None:
    """If the connection still has the key that is dead, the 401 is final, without another request."""
    sim.rotate_key()
    message = failure(hook, FlokitAuthenticationError, "observe", ["int_1"])
    assert "a key dies at once when it is rotated" in message
    assert [r.status for r in sim.requests] == [401]


def test_connection_is_re_read_once(hook: Hook, sim: Simulator, connect: Connect) -> None:
    """If the new key is wrong too, the second 401 is final."""
    with pytest.raises(FlokitAuthenticationError):
        hook.in_a_row(("observe", []), lambda: connect("fk_wrong"), sim.rotate_key, ("observe", []))
    assert [r.status for r in sim.requests] == [200, 401, 401]


def test_connection_that_vanished(hook: Hook, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the connection is gone when it is re-read, the error says so."""
    gone = lambda: monkeypatch.delenv("AIRFLOW_CONN_FLOKIT_DEFAULT")  # noqa: E731 - one of the steps
    with pytest.raises(FlokitConfigError, match="'flokit_default' is not defined"):
        hook.in_a_row(("observe", []), gone, sim.rotate_key, ("observe", []))


@pytest.mark.parametrize(("call", "doing"), CALLS)
def test_single_calls_do_not_re_read(
    hook: Hook, sim: Simulator, connect: Connect, call: tuple[str, ...], doing: str
) -> None:
    """Outside a look a 401 is final at once."""
    with pytest.raises(FlokitAuthenticationError, match=doing):
        hook.in_a_row(call, lambda: connect(sim.rotate_key()), call)
    assert [r.status for r in sim.requests] == [200, 401]


# The Airflow connection


def test_missing_connection(hook: Hook) -> None:
    """A connection that is not defined is told by its id, with what to do."""
    message = failure(hook, FlokitConfigError, "list_integrations", conn_id="flokit_nowhere")
    assert message == (
        "Airflow connection 'flokit_nowhere' is not defined. Add it with the type 'flokit' and a FloKit API key as "
        "password, or name another one with flokit_conn_id."
    )


@pytest.mark.parametrize(("call", "doing"), CALLS)
def test_connection_with_a_wrong_value(
    hook: Hook, sim: Simulator, connect: Connect, call: tuple[str, ...], doing: str
) -> None:
    """A wrong value in the connection stops every call before any request."""
    connect(timeout="soon")
    assert doing
    assert "connection 'flokit_default': extra 'timeout'" in failure(hook, FlokitConfigError, *call)
    assert sim.requests == []


def test_connection_without_a_key(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a password says so."""
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", "flokit://127.0.0.1:1/http")
    assert "API Key (password) is empty" in failure(hook, FlokitConfigError, "list_integrations")


# Airflow 3.0 and 3.1 refuse a connection with such an extra themselves, and then know of none.
REFUSES_ODD_EXTRAS = AIRFLOW_V_3_0_PLUS and not AIRFLOW_V_3_2_PLUS


# Airflow 2 warns of such extras; whether its users see that is up to them.
@pytest.mark.filterwarnings("ignore:Encountered .*JSON:DeprecationWarning")
@pytest.mark.parametrize("extra", ["nonsense", "{", "[]", "[1]", '"text"', "5", "true"])
def test_extra_that_is_no_object(hook: Hook, sim: Simulator, monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    """An extra that is no JSON object is told as such: its settings would be lost silently."""
    connection = json.loads(sim.connection_json()) | {"extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", json.dumps(connection))
    message = failure(hook, FlokitConfigError, "list_integrations")
    if REFUSES_ODD_EXTRAS:
        assert message.startswith("Airflow connection 'flokit_default' is not defined.")
    else:
        assert message == "Airflow connection 'flokit_default': extra is not a JSON object"
    assert sim.requests == []


@pytest.mark.filterwarnings("ignore:Encountered .*JSON:DeprecationWarning")
@pytest.mark.parametrize("extra", ["", *([] if REFUSES_ODD_EXTRAS else ["null"]), "{}", "{ }", " {\n} ", None, {}])
def test_empty_extra(hook: Hook, sim: Simulator, monkeypatch: pytest.MonkeyPatch, extra: object) -> None:
    """An empty extra, however it is written, means the defaults."""
    connection = json.loads(sim.connection_json()) | {"extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", json.dumps(connection))
    assert len(hook("list_integrations")) == 3


@pytest.mark.parametrize("form", ["connection_uri", "connection_json"])
def test_forms_of_the_connection(hook: Hook, sim: Simulator, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """The connection may be a URI or JSON, with a key that has to be quoted there."""
    sim.api_key = "fk/rw+s%ms?:@&="
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", getattr(sim, form)(timeout="5", retry_limit="0"))
    assert len(hook("list_integrations")) == 3
    assert [r.key for r in sim.requests] == ["read-write"]


def test_other_connection(hook: Hook, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook takes the connection that it is told, and names that in errors."""
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_EU", sim.connection_uri("wrong"))
    message = failure(hook, FlokitAuthenticationError, "list_integrations", conn_id="flokit_eu")
    assert "(connection 'flokit_eu')" in message


@pytest.mark.parametrize("kind", [FlokitHook, FlokitAsyncHook])
def test_making_a_hook_does_nothing(kind: type[FlokitHook | FlokitAsyncHook]) -> None:
    """A hook is made without a look at the connection, which may not even exist while a DAG is parsed."""
    hook = kind("flokit_nowhere")
    assert hook.flokit_conn_id == "flokit_nowhere"
    assert kind().flokit_conn_id == "flokit_default"
    assert (kind.conn_name_attr, kind.default_conn_name, kind.conn_type, kind.hook_name) == (
        "flokit_conn_id",
        "flokit_default",
        "flokit",
        "FloKit",
    )


def test_key_is_in_no_log_line(
    hook: Hook, sim: Simulator, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Even with everything logged, the key is in no line and nothing that is printed."""
    caplog.set_level(logging.DEBUG)
    sim.fail(Fault.answer(503, json.dumps({"message": f"odd key {sim.api_key}"}).encode()))
    hook("list_integrations")
    printed = capfd.readouterr()
    assert sim.api_key not in caplog.text + printed.out + printed.err


def test_proxy(hook: Hook, sim: Simulator, other: Simulator, connect: Connect) -> None:
    """The connection's proxies are used: the request goes to the proxy."""
    connect(proxies={"http": other.url}, retry_limit=0)
    failure(hook, FlokitNotFoundError, "list_integrations")
    assert sim.requests == []
    assert len(other.requests) == 1


def test_airflow_masks_a_proxys_password(hook: Hook, sim: Simulator, other: Simulator, connect: Connect) -> None:
    """Airflow, which masks the key in every log by itself, is told of the password in a proxy's URL."""
    connect(proxies={"http": f"http://team:pr0xy%2Fw0rd-{hook.kind}@127.0.0.1:{other.port}"}, retry_limit=0)
    failure(hook, FlokitNotFoundError, "list_integrations")
    masked = airflow_sdk.redact(f"<pr0xy/w0rd-{hook.kind}> <pr0xy%2Fw0rd-{hook.kind}>")
    assert masked == "<***> <***>"
    assert sim.requests == []


@pytest.mark.parametrize("source", ["extra 'verify'", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize(
    "content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_ca_bundle_that_is_none(
    hook: Hook, sim: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, content: str
) -> None:
    """A CA bundle that holds no certificates is the connection's fault, not the network's, in both transports."""
    bundle = tmp_path / "ca.pem"
    bundle.write_text(content)
    extra: dict[str, Any] = {}
    if source == "REQUESTS_CA_BUNDLE":
        monkeypatch.setenv(source, str(bundle))
        source = "the CA bundle that the environment names"
    else:
        extra["verify"] = str(bundle)
    fields = {"conn_type": "flokit", "password": sim.api_key, "host": f"https://127.0.0.1:{sim.port}", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", json.dumps(fields))
    message = failure(hook, FlokitConfigError, "list_integrations")
    assert f"connection 'flokit_default': {source} ({bundle}) is no readable bundle" in message


def test_server_that_speaks_no_tls(hook: Hook, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without TLS is told as such, in the same words in both transports."""
    uri = f"flokit://:{sim.api_key}@127.0.0.1:{sim.port}/https?retry_limit=0"
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", uri)
    message = failure(hook, FlokitUnreachableError, "list_integrations")
    assert f"no answer from https://127.0.0.1:{sim.port}: TLS failed (WRONG_VERSION_NUMBER)" in message


# Sessions


@pytest.fixture
def connects(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record the TCP connections that are opened to the simulator."""
    opened: list[Any] = []
    original = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if address[1:2] == (sim.port,):
            opened.append(address)
        original(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    return opened


def test_context_manager_reuses_one_tcp_connection(hook: Hook, sim: Simulator, connects: list[Any]) -> None:
    """As a context manager, the hook makes all its calls over one TCP connection."""
    hook.in_a_row(("list_integrations",), ("get_integration", "int_1"), ("trigger_sync", "int_1"), ("observe", []))
    assert len(sim.requests) == 4
    assert len(connects) == 1


def test_without_a_context_manager_every_call_has_its_own(hook: Hook, sim: Simulator, connects: list[Any]) -> None:
    """Otherwise each call opens a TCP connection and closes it."""
    hook.in_a_row(("list_integrations",), ("get_integration", "int_1"), entered=False)
    assert len(sim.requests) == 2
    assert len(connects) == 2


def test_retries_reuse_one_tcp_connection(hook: Hook, sim: Simulator, connects: list[Any]) -> None:
    """The attempts of one call share a TCP connection."""
    sim.fail(503, times=2)
    hook("list_integrations")
    assert len(sim.requests) == 3
    assert len(connects) == 1


def test_context_manager_can_be_entered_again(sim: Simulator) -> None:
    """After the end of the block the hook still works, and can be entered again."""
    hook = FlokitHook()
    for _ in range(2):
        with hook as same:
            assert same is hook
            assert len(hook.list_integrations()) == 3
        assert len(hook.list_integrations()) == 3
    assert len(sim.requests) == 4


@pytest.mark.parametrize("entered", [False, True])
@pytest.mark.parametrize(
    "fault",
    [None, 404, 503, Fault.drop(), Fault.close_in_body(), Fault.large_body(17)],
    ids=["well", "404", "503", "dropped", "closed in the body", "large body"],
)
def test_nothing_stays_open(
    hook: Hook, sim: Simulator, connect: Connect, fault: Fault | int | None, *, entered: bool
) -> None:
    """However a call ends, its session and sockets are closed: no ResourceWarning is left to the collector."""
    connect(retry_limit=1)
    if fault is not None:
        sim.fail(fault, times=None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(FlokitError):
            hook.in_a_row(("list_integrations",), ("get_integration", "int_1"), entered=entered)
        gc.collect()
    assert [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)] == []


# What only the synchronous hook has, for the operator


def test_start_sync(sim: Simulator) -> None:
    """Starting a sync tells the server's time beside the sync_id."""
    sim.clock_skew = -5000
    sync_id, at = FlokitHook().start_sync("int_1", "key-1")
    assert [(run.sync_id, run.idempotency_key) for run in sim.syncs] == [(sync_id, "key-1")]
    assert abs(datetime.now(tz=UTC) - at - timedelta(seconds=5000)) < timedelta(seconds=5)


def test_read(sim: Simulator) -> None:
    """One integration is read by its id or its type, with the server's time."""
    sim.clock_skew = 5000
    by_id = FlokitHook().read(integration_id="int_2")
    by_type = FlokitHook().read(integration_type="adjust")
    assert list(by_id.integrations) == list(by_type.integrations) == ["int_2"]
    for found in (by_id, by_type):
        assert abs(found.at - datetime.now(tz=UTC) - timedelta(seconds=5000)) < timedelta(seconds=5)
    with pytest.raises(FlokitAmbiguousTypeError):
        FlokitHook().read(integration_type="stripe")


def test_retry_limit_of_the_connection(connect: Connect) -> None:
    """The hook tells the connection's retry limit."""
    connect(retry_limit=7)
    assert FlokitHook().retry_limit == 7


def test_same_public_names() -> None:
    """The asynchronous hook has the synchronous one's calls under the same names, each documented."""
    calls = ["list_integrations", "get_integration", "find_integration", "trigger_sync", "test_connection", "observe"]
    for name in calls:
        for kind in (FlokitHook, FlokitAsyncHook):
            assert getattr(kind, name).__doc__


def test_field_behaviour_is_the_metadata() -> None:
    """Older Airflow gets the form's labels from the hook: the same as newer ones read in the metadata."""
    behaviour = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
    assert FlokitHook.get_ui_field_behaviour() == {name.replace("-", "_"): item for name, item in behaviour.items()}


def test_no_request_leaves_after_its_call_has_failed(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that answers after the deadline does not let the POST go out that was given up."""
    honest = socket.getaddrinfo

    def slow(*given: Any, **named: Any) -> Any:
        time.sleep(0.5)
        return honest(*given, **named)

    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", sim.connection_uri(timeout=0.2, retry_limit=0))
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with pytest.raises(FlokitUnreachableError, match=r"timed out after 0\.2 s"):
        FlokitHook().trigger_sync("int_1")
    time.sleep(1.0)
    assert sim.requests == []
    assert sim.syncs == []


@pytest.mark.parametrize(
    ("proxy", "used"), [("127.0.0.1:3128", "http://127.0.0.1:3128"), ("http://proxy:3128", "http://proxy:3128")]
)
def test_a_proxy_of_the_environment_may_lack_its_scheme(monkeypatch: pytest.MonkeyPatch, proxy: str, used: str) -> None:
    """Both transports are given the same whole URL."""
    monkeypatch.setenv("https_proxy", proxy)
    assert proxy_for(FlokitConnection.from_fields(conn_id="c", password="k", host="api.flokit.test")) == used


def test_a_proxy_of_the_environment_that_is_none_for_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused by name, not taken for something that speaks HTTP."""
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(FlokitConfigError, match="proxy that the environment names"):
        proxy_for(FlokitConnection.from_fields(conn_id="c", password="k", host="api.flokit.test"))


def test_overlapping_calls_share_a_session(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a context the call that ends last closes the session, not the one that ends first."""
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", sim.connection_uri(retry_limit=0))
    sim.fail(Fault.slow(0.5), path="/v1/integrations/int_1")

    async def main() -> None:
        hook = FlokitAsyncHook()
        one, listed = await asyncio.gather(hook.get_integration("int_1"), hook.list_integrations())
        assert (one.id, len(listed)) == ("int_1", 3)
        assert hook._transport is None

    asyncio.run(main())
