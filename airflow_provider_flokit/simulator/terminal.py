"""What the simulator's command prints: in colour on a terminal, if rich is installed, as it is beside Airflow."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from airflow_provider_flokit.simulator.connection import ENVIRONMENT_VARIABLE

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator.records import RecordedRequest
    from airflow_provider_flokit.simulator.server import Simulator

_STATUS_STYLES = {"connected": "green", "syncing": "yellow", "error": "red", "disconnected": "red"}
_FIRST_FAILURE, _FIRST_SERVER_FAILURE = 400, 500


class Terminal:
    """Prints to standard output; text from outside is never taken for markup."""

    def __init__(self) -> None:
        self._console = None
        try:
            from rich.console import Console
        except ImportError:
            return
        console = Console(highlight=False, markup=False, soft_wrap=True)
        if console.is_terminal:
            self._console = console

    def say(self, *parts: str | tuple[str, str]) -> None:
        """
        Print one line.

        :param parts: Texts, or pairs of a text and its style.
        """
        pairs = [(part, "") if isinstance(part, str) else part for part in parts]
        if self._console is None:
            print("".join(text for text, _ in pairs), flush=True)
            return
        from rich.text import Text

        self._console.print(Text.assemble(*pairs))

    def introduce(self, simulator: Simulator) -> None:
        """
        Print where the simulator is, its keys and integrations, and the connection to export.

        :param simulator: It runs.
        """
        self.say("FloKit simulator: ", (simulator.url, "bold cyan"), "  (Ctrl-C to stop)")
        self.say("  read-write key  ", (simulator.api_key, "bold"))
        self.say("  read-only key   ", (simulator.read_only_key, "bold"))
        for each in simulator.integrations:
            reason = f": {each.error_message}" if each.error_message else ""
            style = _STATUS_STYLES.get(each.status, "yellow")
            self.say(f"  {each.id:<24} {each.type:<18} ", (f"{each.status}{reason}", style))
        export = f"export {ENVIRONMENT_VARIABLE}={shlex.quote(simulator.connection_uri())}"
        self.say("")
        self.say((export, "bold"))
        self.say("")

    def request(self, request: RecordedRequest) -> None:
        """
        Print a request and what became of it.

        :param request: The request.
        """
        at = request.at.astimezone()
        status = request.status
        style = "green"
        if status is None or status >= _FIRST_SERVER_FAILURE:
            style = "red"
        elif status >= _FIRST_FAILURE:
            style = "yellow"
        self.say(
            (f"{at:%H:%M:%S}  ", "dim"),
            (f"{request.method:<4} ", "bold" if request.method == "POST" else ""),
            f"{request.path:<46} ",
            (f"{'-' if status is None else status:<3}", style),
            f"  {request.note}",
        )
