"""
The control endpoints under ``/_simulator/``, through which another process drives a simulator.

``GET /_simulator/state``, ``/requests``, ``/syncs`` read; ``POST /_simulator/<command>`` with a JSON object
of arguments changes something. There is no key, so only what a local program sends is taken: a web page could
neither send JSON without the browser asking first, nor name this host.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from aiohttp import web

from airflow_provider_flokit.simulator.faults import Fault
from airflow_provider_flokit.simulator.records import Sync, to_jsonable

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.simulator.server import Simulator

PREFIX = "/_simulator/"

Arguments = dict[str, Any]


def _sync(document: Any) -> Sync | None:
    return None if document is None else Sync(**document)


def _fields(arguments: Arguments) -> Arguments:
    return {name: _sync(value) if name in ("sync", "scheduled_sync") else value for name, value in arguments.items()}


def _state(sim: Simulator, _: Arguments) -> Any:
    return {
        "api_key": sim.api_key,
        "read_only_key": sim.read_only_key,
        "rate_limited": sim.rate_limited,
        "switches": sim.switches,
        "integrations": sim.integrations,
    }


def _fail(sim: Simulator, arguments: Arguments) -> None:
    sim.fail(Fault.from_json(arguments.pop("fault")), **arguments)


def _plan(sim: Simulator, arguments: Arguments) -> None:
    sim.plan(arguments["integration_id"], *(Sync(**sync) for sync in arguments["syncs"]))


_READS: dict[str, Callable[[Simulator, Arguments], Any]] = {
    "state": _state,
    "requests": lambda sim, _: sim.requests,
    "syncs": lambda sim, _: sim.syncs,
}
_COMMANDS: dict[str, Callable[[Simulator, Arguments], Any]] = {
    "add_integration": lambda sim, arguments: sim.add_integration(**_fields(arguments)),
    "set_state": lambda sim, arguments: sim.set_state(**_fields(arguments)),
    "remove_integration": lambda sim, arguments: sim.remove_integration(**arguments),
    "integration": lambda sim, arguments: sim.integration(**arguments),
    "plan": _plan,
    "run_scheduled_sync": lambda sim, arguments: sim.run_scheduled_sync(**_fields(arguments)),
    "script": lambda sim, arguments: sim.script(**arguments),
    "script_after_sync": lambda sim, arguments: sim.script_after_sync(**arguments),
    "configure": lambda sim, arguments: sim.configure(**arguments),
    "rotate_key": lambda sim, arguments: sim.rotate_key(**arguments),
    "fail": _fail,
    "outage": lambda sim, _: sim.outage(),
    "clear_faults": lambda sim, _: sim.clear_faults(),
    "clear_requests": lambda sim, _: sim.clear_requests(),
}


async def handle(request: web.Request, sim: Simulator) -> web.Response:
    """
    Serve one control request. Errors answer 400 (404: unknown id or command) with ``error`` and ``message``.

    :param request: the request.
    :param sim: what it is about.
    """
    name = request.path.removeprefix(PREFIX)
    if not _is_loopback(request.url.host):
        return _refuse(403, "Only reached under a loopback address")
    if request.method == "GET" and name in _READS:
        return web.json_response(to_jsonable(_READS[name](sim, {})))
    if request.method != "POST" or name not in _COMMANDS:
        known = [f"GET {PREFIX}{read}" for read in _READS] + [f"POST {PREFIX}{command}" for command in _COMMANDS]
        return _refuse(404, f"There are: {', '.join(known)}")
    if request.content_type != "application/json":
        return _refuse(400, "Send a JSON object as application/json")
    try:
        arguments = await request.json()
        if not isinstance(arguments, dict):
            return _refuse(400, "Send the arguments as a JSON object")
        return web.json_response(to_jsonable(_COMMANDS[name](sim, arguments)))
    except KeyError as error:
        return _refuse(404, str(error.args[0]))
    except (TypeError, ValueError, AttributeError) as error:
        return _refuse(400, str(error))


def _is_loopback(host: str | None) -> bool:
    if host is None or host == "localhost":
        return host is not None
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse(status: int, message: str) -> web.Response:
    return web.json_response({"error": "simulator", "message": message}, status=status)
