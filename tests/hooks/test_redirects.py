"""Which redirects both hooks follow, and which they refuse."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from airflow_provider_flokit.errors import (
    FlokitRequestError,
)
from airflow_provider_flokit.simulator import Fault, Simulator

from .conftest import CALLS, CONN, LIST, SYNC, failure

if TYPE_CHECKING:
    from .conftest import Hook


def test_key_in_a_redirect_is_redacted(hook: Hook, sim: Simulator) -> None:
    """A redirect to a host that holds the key does not bring it into the message."""
    sim.fail(Fault.redirect(f"http://{sim.api_key}.example/"))
    assert "another origin, http://***.example:80" in failure(hook, FlokitRequestError, "list_integrations")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("base", ["", "{url}", "//{netloc}", "http://user@{netloc}"])
def test_redirect_within_the_origin(hook: Hook, sim: Simulator, status: int, base: str) -> None:
    """A GET follows a redirect within the origin, relative or absolute, with the key."""
    location = base.format(url=sim.url, netloc=f"127.0.0.1:{sim.port}") + f"{LIST}?page=1"
    sim.fail(Fault.redirect(location, status))
    assert len(hook("list_integrations")) == 3
    assert [(r.path, r.status, r.key) for r in sim.requests] == [
        (LIST, status, "read-write"),
        (LIST, 200, "read-write"),
    ]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(("call", "doing"), CALLS)
def test_redirect_to_another_origin(
    hook: Hook, sim: Simulator, other: Simulator, call: tuple[str, ...], doing: str, status: int
) -> None:
    """A redirect to another origin is refused; the key and everything else stay here."""
    sim.fail(Fault.redirect(f"{other.url}{LIST}", status))
    message = failure(hook, FlokitRequestError, *call)
    assert f"{doing} {CONN}: HTTP {status} redirects to another origin, {other.url}; the key was not sent" in message
    assert "set it as the connection's API URL (host)" in message
    assert other.requests == []
    assert len(sim.requests) == 1


@pytest.mark.parametrize(
    "location",
    [
        "https://127.0.0.1:{port}/v1/integrations",
        "//127.0.0.1:{other}/v1/integrations",
        "http://127.0.0.1:{port}@localhost:{other}/v1/integrations",
        "http://localhost:{port}/v1/integrations",
        "ftp://127.0.0.1:{port}/",
        "javascript:alert(1)",
        "http://127.0.0.1:99999999/",
        "http://127.0.0.1:port/",
        "http://[",
        "http://[::1",
        "//[x]/",
    ],
)
def test_redirect_to_odd_places(hook: Hook, sim: Simulator, other: Simulator, location: str) -> None:
    """Whatever another Location says, nothing is sent there, and the error is one of ours."""
    sim.fail(Fault.redirect(location.format(port=sim.port, other=other.port)), times=None)
    failure(hook, FlokitRequestError, "list_integrations")
    assert other.requests == []
    assert len(sim.requests) == 1


@pytest.mark.parametrize("status", [307, 308])
def test_post_is_redirected_as_a_post(hook: Hook, sim: Simulator, status: int) -> None:
    """307 and 308 within the origin repeat the POST, with its Idempotency-Key."""
    sim.fail(Fault.redirect(f"{LIST}/int_2/sync", status), path=SYNC)
    sync_id = hook("trigger_sync", "int_1")
    assert [(run.sync_id, run.integration_id) for run in sim.syncs] == [(sync_id, "int_2")]
    assert [r.method for r in sim.requests] == ["POST", "POST"]
    assert len({r.idempotency_key for r in sim.requests}) == 1


@pytest.mark.parametrize("status", [301, 302, 303])
def test_post_is_never_redirected_as_a_get(hook: Hook, sim: Simulator, status: int) -> None:
    """Other redirects of a POST would turn it into a GET: an error instead."""
    sim.fail(Fault.redirect(LIST, status), path=SYNC)
    assert f"HTTP {status} redirects a POST" in failure(hook, FlokitRequestError, "trigger_sync", "int_1")
    assert len(sim.requests) == 1


def test_redirect_without_a_location(hook: Hook, sim: Simulator) -> None:
    """A redirect that leads nowhere is an error."""
    sim.fail(Fault.answer(302, "empty"))
    assert "HTTP 302" in failure(hook, FlokitRequestError, "list_integrations")


@pytest.mark.parametrize("path", ["{key}", "x?token={key}", "x?token={encoded}"])
def test_redirect_that_holds_the_key(hook: Hook, sim: Simulator, path: str) -> None:
    """A URL with the key in it is not asked for, not even of FloKit itself: URLs end up in logs on the way."""
    encoded = base64.urlsafe_b64encode(f"Bearer {sim.api_key}".encode()).decode()
    sim.fail(Fault.redirect(f"{LIST}/{path.format(key=sim.api_key, encoded=encoded)}"))
    assert "redirects to a URL that holds the API key" in failure(hook, FlokitRequestError, "list_integrations")
    assert len(sim.requests) == 1
