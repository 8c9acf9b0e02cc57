"""How answers and faults become bytes on a connection."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING

from aiohttp import web

from airflow_provider_flokit.simulator.rendering import JSON_TYPE, http_date

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_flokit.simulator.api import Answer
    from airflow_provider_flokit.simulator.faults import Fault

LOOP_PATH = "/redirect-loop/"
"""Where a redirect loop leads: any path below it leads to the next one."""

_OPENING, _CLOSING = b'{"integrations": [], "padding": "', b'"}'
_BLOCK = b" " * 65_536


def outcome(fault: Fault, real: Answer | None) -> tuple[int | None, str]:
    """
    Return the status that a client sees (None: none) and a note for the record.

    :param fault: what will be played.
    :param real: the honest answer, where the request took effect.
    """
    effect = "" if real is None else f" ({real.note})"
    note = f"fault: {fault.name}{effect}"
    if fault.action in ("drop", "reset", "raw", "close_in_headers", "trickle_headers"):
        return None, note
    if fault.action in ("close_in_body", "truncate", "trickle", "slow", "compress") and real is not None:
        return real.status, note
    return fault.code, note


def honest(answer: Answer) -> web.Response:
    """
    Make an honest answer.

    :param answer: what the API says.
    """
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


def loop_code(path: str) -> int:
    """
    Return the status of a step of a redirect loop; 302 for a step that no loop leads to.

    :param path: the step's path.
    """
    code = path.removeprefix(LOOP_PATH).partition("/")[0]
    return int(code) if code in ("301", "302", "303", "307", "308") else 302


async def play(request: web.Request, fault: Fault, real: Answer | None, server_time: float) -> web.StreamResponse:
    """
    Play a fault.

    :param request: what is (not) answered.
    :param fault: how.
    :param real: the honest answer, where the request took effect.
    :param server_time: seconds since the epoch by the server's clock, for HTTP dates.
    """
    match fault.action:
        case "drop":
            return hang_up(request)
        case "redirect_loop":
            return redirect_on(request, fault.code)
        case "reset":
            return reset(request)
        case "raw":
            return hang_up(request, fault.body)
        case "trickle_headers":
            return await _trickle_headers(request, fault.seconds)
        case "bomb":
            bomb = await asyncio.to_thread(_bomb, fault.size, dict(fault.headers)["Content-Encoding"])
            return web.Response(body=bomb, headers={"Content-Type": JSON_TYPE, **dict(fault.headers)})
        case "large_body":
            return await _stream(request, _padding(fault.size), fault.size)
    if real is None or fault.action == "answer":
        headers = dict(fault.headers)
        if fault.retry_after_date is not None:
            headers["Retry-After"] = http_date(server_time + fault.retry_after_date)
        return web.Response(status=fault.code, body=fault.body, headers=headers)
    return await _break(request, fault, real)


async def _break(request: web.Request, fault: Fault, real: Answer) -> web.StreamResponse:
    half = len(real.body) // 2
    match fault.action:
        case "close_in_headers":
            return hang_up(request, f"HTTP/1.1 {real.status} OK\r\nContent-Type: applica".encode())
        case "close_in_body":
            head = f"HTTP/1.1 {real.status} OK\r\nContent-Type: {JSON_TYPE}\r\n"
            length = f"Content-Length: {len(real.body)}\r\n\r\n"
            return hang_up(request, (head + length).encode() + real.body[:half])
        case "truncate":
            return web.Response(status=real.status, body=real.body[:half], headers=real.headers)
        case "compress":
            headers = {**real.headers, **dict(fault.headers)}
            return web.Response(
                status=real.status, body=_compressed(real.body, headers["Content-Encoding"]), headers=headers
            )
        case "trickle":
            return await _stream(request, _pieces(real.body, fault), len(real.body), real.status)
    await asyncio.sleep(fault.seconds)  # a slow answer, after it took effect
    return honest(real)


def hang_up(request: web.Request, last_words: bytes = b"") -> web.Response:
    """
    Close the connection, and return an answer that can no longer be sent.

    :param request: what came over it.
    :param last_words: bytes to send before.
    """
    if request.transport is not None:
        if last_words:
            request.transport.write(last_words)
        request.transport.close()
    return web.Response()


def reset(request: web.Request) -> web.Response:
    """
    Reset the connection, and return an answer that can no longer be sent.

    :param request: what came over it.
    """
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        # Closed with a linger of no time, a connection is not ended in order but reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()


async def _trickle_headers(request: web.Request, seconds: float) -> web.Response:
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 200 OK\r\n")
        # Ends when the client hangs up.
        while not request.transport.is_closing():
            for byte in b"X-Patience: yes\r\n":
                request.transport.write(bytes([byte]))
                await asyncio.sleep(seconds)
    return web.Response()


def redirect_on(request: web.Request, code: int) -> web.Response:
    """
    Lead on to the next step of a redirect loop.

    :param request: the present step, or the request that is sent into the loop.
    :param code: the HTTP status to do it with.
    """
    step = request.path.rpartition("/")[2]
    following = int(step) + 1 if request.path.startswith(LOOP_PATH) and step.isdigit() else 1
    return web.Response(status=code, headers={"Location": f"{LOOP_PATH}{code}/{following}"})


async def _stream(
    request: web.Request, pieces: AsyncIterator[bytes], length: int, status: int = 200
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers={"Content-Type": JSON_TYPE})
    response.content_length = length
    await response.prepare(request)
    try:
        async for piece in pieces:
            await response.write(piece)
        await response.write_eof()
    except ConnectionError:  # the client has heard enough
        hang_up(request)
    return response


async def _pieces(body: bytes, fault: Fault) -> AsyncIterator[bytes]:
    for begin in range(0, len(body), fault.size):
        yield body[begin : begin + fault.size]
        await asyncio.sleep(fault.seconds)


async def _padding(size: int) -> AsyncIterator[bytes]:
    left = size - len(_OPENING) - len(_CLOSING)
    yield _OPENING
    while left > 0:
        yield _BLOCK[:left]
        left -= len(_BLOCK)
    yield _CLOSING


@lru_cache(maxsize=4)
def _bomb(size: int, encoding: str) -> bytes:
    blanks = b" " * (size - len(_OPENING) - len(_CLOSING))
    return _compressed(_OPENING + blanks + _CLOSING, encoding)


def _compressed(body: bytes, encoding: str) -> bytes:
    for name in encoding.split(","):
        body = gzip.compress(body, compresslevel=6) if name.strip() == "gzip" else zlib.compress(body)
    return body
