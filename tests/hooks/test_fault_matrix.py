"""Every call meets every fault over both transports, and comes to the outcome that the table in the docs states."""

from __future__ import annotations

import json
import socket
import ssl
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_provider_flokit import retry
from airflow_provider_flokit.errors import FlokitError, FlokitRateLimitError
from airflow_provider_flokit.simulator import Fault, Simulator

from .fault_document import DOCUMENT, document
from .fault_matrix import CALLS, GROUPS, SYNCED_AT, Row, described

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Connect, Hook, Pauses

ROWS = [row for rows in GROUPS.values() for row in rows]
CASES = [pytest.param(row, call, id=f"{row.name}-{call}") for row in ROWS for call in row.calls]
SLACK = 10.0
"""Seconds that a busy machine may add."""


@pytest.fixture(autouse=True)
def quick_retries(pauses: Pauses) -> None:
    """Take no pauses, but let their lengths be those of the policy."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make certificates, each with its key in one file: for loopback, for another host, and one that has expired."""
    folder = tmp_path_factory.mktemp("certificates")
    address = x509.IPAddress(ip_address("127.0.0.1"))
    _make_certificate(folder / "self-signed.pem", address, timedelta(days=1))
    _make_certificate(folder / "other.pem", x509.DNSName("flokit.example"), timedelta(days=1))
    _make_certificate(folder / "expired.pem", address, timedelta(days=-1))
    return folder


def _make_certificate(path: Path, host: x509.GeneralName, valid: timedelta) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "flokit-simulator")])
    now = datetime.now(tz=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@dataclass
class Stage:
    """Where a fault is played that is not the answer to a request."""

    sim: Simulator
    monkeypatch: pytest.MonkeyPatch
    certificates: Path
    exits: ExitStack
    url: str = ""

    def set(self, name: str, **settings: Any) -> None:
        """Let the connection ``flokit_default`` meet a fault."""
        self.url = self.sim.url
        match name:
            case "refused":
                self.sim.stop()
            case "unknown host" | "slow host":
                self.url = "https://flokit.invalid"
                self._no_name_server(hangs=name == "slow host")
            case "full backlog":
                self.url = self._full_server()
            case "dead proxy":
                settings["proxies"] = json.dumps({"all": "http://127.0.0.1:1"})
            case "no TLS":
                self.url = self.sim.url.replace("http:", "https:")
            case _:
                settings |= self._with_certificate(name)
        uri = f"flokit://:{self.sim.api_key}@{self.url.partition('//')[2]}/{self.url.partition(':')[0]}"
        self.monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", f"{uri}?{urlencode(settings)}")

    def _with_certificate(self, name: str) -> dict[str, str]:
        files = {"self-signed": "self-signed", "trusted": "self-signed", "other host's": "other", "expired": "expired"}
        path = self.certificates / f"{files[name]}.pem"
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(path)
        self.sim = self.exits.enter_context(Simulator(tls=tls))
        self.sim.add_integration("int_1", "stripe", last_synced_at=SYNCED_AT)
        self.url = self.sim.url
        return {} if name == "self-signed" else {"verify": str(path)}

    def _no_name_server(self, *, hangs: bool) -> None:
        honest = socket.getaddrinfo

        def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
            if host not in ("flokit.invalid", b"flokit.invalid"):
                return honest(host, *args, **kwargs)
            if hangs:
                time.sleep(1.0)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        self.monkeypatch.setattr(socket, "getaddrinfo", look_up)
        # A proxy of the machine's would look the name up itself.
        self.monkeypatch.setenv("no_proxy", "*")

    def _full_server(self) -> str:
        """Return the address of a server that neither accepts nor refuses: its queue of connections is full."""
        server = self.exits.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            waiting = self.exits.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 - the only way to say it
            waiting.connect_ex(server.getsockname())
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def stage(sim: Simulator, monkeypatch: pytest.MonkeyPatch, certificates: Path) -> Iterator[Stage]:
    """Prepare what a fault may need."""
    sim.set_state("int_1", last_synced_at=SYNCED_AT)
    with ExitStack() as exits:
        yield Stage(sim, monkeypatch, certificates, exits, sim.url)


# aiohttp may close TLS connections in the background, which an event loop that ends at once does not see done.
@pytest.mark.filterwarnings("ignore:unclosed (transport|<socket):ResourceWarning")
@pytest.mark.parametrize(("row", "call"), CASES)
def test_fault(hook: Hook, stage: Stage, connect: Connect, pauses: Pauses, row: Row, call: str) -> None:
    """
    Exception, message, attempts and pauses are those of the table; what is retried is well if the fault has gone.

    The simulator plays the fault as long as it is asked, so the call would not end without its deadline.
    """
    fault, (arguments, doing) = row.fault_of(call), CALLS[call]
    settings = {"retry_limit": 1, **row.settings}
    if isinstance(fault, Fault):
        connect(**settings)
        stage.sim.fail(fault, times=1 if row.error is None else None)
    else:
        stage.set(fault, **settings)
    begin = time.monotonic()
    if row.error is None:
        assert described(hook(*arguments)) == row.says
        assert pauses.seconds == []
        return
    with pytest.raises(FlokitError) as caught:
        hook(*arguments)
    taken = time.monotonic() - begin
    assert type(caught.value) is row.error
    assert str(caught.value) == f"FloKit, {doing} (connection 'flokit_default'): {row.says.format(url=stage.url)}"
    assert len(pauses.seconds) == int(row.retried)
    assert len(stage.sim.requests) == row.requests * (1 + int(row.retried))
    for pause in pauses.seconds:
        longest = retry.crowd_spread(1) if row.error is FlokitRateLimitError else retry.BACKOFF_BASE
        # An HTTP date has whole seconds.
        assert row.retry_after - 1 <= pause <= row.retry_after + longest
        assert pause >= retry.BACKOFF_BASE / 2
    assert taken <= row.settings.get("timeout", 0) * 2 + SLACK
    if row.retried and isinstance(fault, Fault):
        stage.sim.clear_faults()
        stage.sim.fail(fault)
        assert hook(*arguments)
    keys = [run.idempotency_key for run in stage.sim.syncs]
    assert len(keys) == len(set(keys)), "one call started two syncs"


def test_document_is_up_to_date() -> None:
    """The table in the docs is what the test above states."""
    assert DOCUMENT.is_file()
    written = DOCUMENT.read_text(encoding="utf-8")
    assert written == document(), "Run `.ci/airflow run 3.3 python -m tests.hooks.fault_document` to write it anew."
