"""
The switches of a simulated workspace: one for each thing that FloKit's reference leaves open, and for the
conditions.

They are read and set as attributes (``sim.when_running = "conflict"``), or several at once with
``sim.configure(...)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypedDict, TypeVar, get_args, overload

WhenRunning: TypeAlias = Literal["join", "queue", "conflict"]
BodyKind: TypeAlias = Literal["json", "html", "empty"]
Missing: TypeAlias = Literal["null", "absent"]
TimestampFormat: TypeAlias = Literal["Z", "+00:00", "fraction", "naive", "seconds"]
RateLimit: TypeAlias = tuple[int, float]

_CHOICES: dict[str, tuple[str, ...]] = {
    "when_running": get_args(WhenRunning),
    "conflict_body": get_args(BodyKind),
    "unknown_id_body": get_args(BodyKind),
    "never_synced": get_args(Missing),
    "no_error": get_args(Missing),
    "timestamp_format": get_args(TimestampFormat),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """
    How the workspace behaves where the reference is silent, and under which conditions it is reached.

    :param when_running: what a POST does while a sync is waiting or running: ``join`` (default) answers that
        sync's id, ``queue`` runs another one after it, ``conflict`` answers 409.
    :param conflict_body: the body of that 409: ``json`` (default), ``html`` or ``empty``.
    :param unknown_id_body: the body of the 404 for an unknown id, likewise.
    :param honour_idempotency_key: whether a repeated POST with the same key gets the same answer for 24 hours
        and starts nothing; default True.
    :param never_synced: ``last_synced_at`` of an integration that never synced: ``null`` (default) or
        ``absent``.
    :param no_error: ``error_message`` where there is none: ``null`` (default, as documented) or ``absent``.
    :param timestamp_format: ``Z`` (default; a moment between two seconds keeps its fraction, or two quick
        syncs could not be told apart), ``seconds`` (``Z``, fractions cut off), ``+00:00``, ``fraction``
        (always) or ``naive``.
    :param send_date: whether answers carry a ``Date`` header; default True.
    :param clock_skew: seconds the server's clock is ahead (negative: behind) of ours; default 0. It moves
        ``Date`` and the timestamps of syncs asked for from then on, never the real durations.
    :param latency: seconds that every request takes before it is handled; default 0.
    :param rate_limit: ``(requests, seconds)`` allowed per window; beyond them 429 with ``Retry-After``;
        default None.
    """

    when_running: WhenRunning = "join"
    conflict_body: BodyKind = "json"
    unknown_id_body: BodyKind = "json"
    honour_idempotency_key: bool = True
    never_synced: Missing = "null"
    no_error: Missing = "null"
    timestamp_format: TimestampFormat = "Z"
    send_date: bool = True
    clock_skew: float = 0.0
    latency: float = 0.0
    rate_limit: RateLimit | None = None

    def __post_init__(self) -> None:
        """Refuse a value that is none of a switch's positions."""
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                msg = f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}"
                raise ValueError(msg)
        if self.latency < 0:
            msg = f"latency must be 0 or more seconds, not {self.latency!r}"
            raise ValueError(msg)
        if self.rate_limit is not None:
            requests, seconds = self.rate_limit
            if requests < 1 or seconds <= 0:
                msg = f"rate_limit must be (requests, seconds), both above 0, not {self.rate_limit!r}"
                raise ValueError(msg)
            object.__setattr__(self, "rate_limit", (int(requests), float(seconds)))


class SwitchValues(TypedDict, total=False):
    """The switches as keyword arguments; see :class:`Switches`."""

    when_running: WhenRunning
    conflict_body: BodyKind
    unknown_id_body: BodyKind
    honour_idempotency_key: bool
    never_synced: Missing
    no_error: Missing
    timestamp_format: TimestampFormat
    send_date: bool
    clock_skew: float
    latency: float
    rate_limit: RateLimit | None


T = TypeVar("T")


class _Switch(Generic[T]):
    """One switch as an attribute of a :class:`SwitchBoard`."""

    def __set_name__(self, owner: type[SwitchBoard], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, board: None, owner: type[SwitchBoard]) -> _Switch[T]: ...
    @overload
    def __get__(self, board: SwitchBoard, owner: type[SwitchBoard]) -> T: ...
    def __get__(self, board: SwitchBoard | None, owner: type[SwitchBoard]) -> T | _Switch[T]:
        if board is None:
            return self
        value: T = getattr(board.switches, self.name)
        return value

    def __set__(self, board: SwitchBoard, value: T) -> None:
        board.set_switches({self.name: value})


class SwitchBoard:
    """The switches as attributes, for a simulator in this process and for one in another."""

    when_running = _Switch[WhenRunning]()
    conflict_body = _Switch[BodyKind]()
    unknown_id_body = _Switch[BodyKind]()
    honour_idempotency_key = _Switch[bool]()
    never_synced = _Switch[Missing]()
    no_error = _Switch[Missing]()
    timestamp_format = _Switch[TimestampFormat]()
    send_date = _Switch[bool]()
    clock_skew = _Switch[float]()
    latency = _Switch[float]()
    rate_limit = _Switch[RateLimit | None]()

    @property
    def switches(self) -> Switches:
        """All switches as they stand."""
        raise NotImplementedError

    def set_switches(self, values: dict[str, Any]) -> None:
        """
        Set switches by name; :meth:`configure` is the typed form.

        :param values: the new positions.
        """
        raise NotImplementedError
