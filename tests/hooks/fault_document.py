"""``python -m tests.hooks.fault_document`` writes ``docs/faults.md`` from the rows that the tests play."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from airflow_provider_flokit import connection, errors, retry, watch
from airflow_provider_flokit.body import BODY_LIMIT
from tests.checkout import REPOSITORY
from tests.hooks.fault_matrix import CALLS, GROUPS, TIMEOUT

if TYPE_CHECKING:
    from tests.hooks.fault_matrix import Row

DOCUMENT: Final = REPOSITORY / "docs" / "faults.md"

INTRODUCTION: Final = """\
# What every fault comes to

This page is written by `python -m tests.hooks.fault_document` from the very rows that the tests play, for every call
and over both transports. Of each of these faults `FlokitHook` (requests, in workers) and `FlokitAsyncHook` (aiohttp, in
the triggerer) make the same exception, the same message and the same number of attempts.

*list*, *get* and *sync* are `list_integrations()`, `get_integration()` and `trigger_sync()`; where none is named, the
row holds for all three. Each message begins with the call and the connection, as in
`FloKit, reading int_1 (connection 'flokit_default'): `. While a task waits, nothing that is tried again ends the wait:
it goes on until its own deadline.
"""

BOUNDS: Final = {
    "one request, from looking up the host to the last byte": (
        f"the connection's `timeout` ({connection.DEFAULT_TIMEOUT:g} s by default), however slowly the answer trickles "
        f"in"
    ),
    "attempts of one call": (
        f"1 + the connection's `retry_limit` ({connection.DEFAULT_RETRY_LIMIT} by default); all attempts of a sync "
        f"carry one `Idempotency-Key`"
    ),
    "pause between two attempts": (
        f"{retry.BACKOFF_BASE:g} s, doubled from failure to failure up to {retry.BACKOFF_CAP:g} s, less up to half of "
        f"it at random; after a 429, at random up to {retry.crowd_spread(1):g} s and then {retry.SPREAD_CAP:g} s later "
        f"than asked, so that a crowd does not come back as one"
    ),
    "`Retry-After`": (
        f"no attempt comes earlier, within an hour. More than {retry.RETRY_AFTER_LIMIT:g} s: a call outside a wait "
        f"gives up at once and names the time; a wait goes on, and ends at its own deadline"
    ),
    "the body of an answer": (
        f"{BODY_LIMIT >> 20} MiB, decompressed; what is larger is not read to its end. Only gzip is asked for and "
        f"accepted"
    ),
    "redirects": "5, within the same scheme, host and port; the key is sent to no other",
    "a text from outside in a message": (
        f"{errors.SHOWN_LENGTH} characters on one line; control characters, terminal escapes and what is invisible "
        f"are written as `\\x1b`"
    ),
    "a whole message": f"{errors.MESSAGE_LENGTH:,} characters",
    "an integration's `error_message`, in XComs and trigger rows too": "2,000 characters, without control characters",
    "its `id`, `type` and `status`, and a `sync_id`": "256 printable characters; others are refused",
    "a wait's last look, at its deadline": (
        f"attempts for {watch.GRACE:g} s, the last of which may take its own `timeout`"
    ),
}


def document() -> str:
    """Return the text of the page."""
    lines = [INTRODUCTION, "## Bounds", "", "| What | Bound |", "| --- | --- |"]
    lines += [f"| {what} | {bound} |" for what, bound in BOUNDS.items()]
    for title, rows in GROUPS.items():
        lines += ["", f"## {title}", "", "| Fault | Outcome | Attempts | The message, or the result |"]
        lines += ["| --- | --- | --- | --- |", *map(_line, rows)]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    calls = "" if row.calls == tuple(CALLS) else f" ({', '.join(row.calls)})"
    outcome = "success" if row.error is None else f"`{row.error.__name__}`"
    attempts = "1 + `retry_limit`" if row.retried else "1"
    says = re.sub(r"x{50,}", "xxx", row.says).replace("\\", "\\\\")
    says = says.replace("{url}", "*URL*").replace(f"after {TIMEOUT:g} s", "after *timeout* s")
    return f"| {row.name}{calls} | {outcome} | {attempts} | {says} |"


if __name__ == "__main__":
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(document(), encoding="utf-8")
