"""The faults that wait for the requests they belong to."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator.faults import Fault


@dataclass(slots=True)
class _Rule:
    fault: Fault
    method: str | None
    path: str | None
    times: int | None
    after: int


@dataclass(slots=True)
class FaultList:
    """The faults that wait for their requests. Of several that match, the first one added is played."""

    _rules: list[_Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self,
        fault: Fault,
        method: str | None,
        path: str | None,
        times: int | None,
        after: int,
        *,
        first: bool = False,
    ) -> None:
        """
        Add a fault.

        :param fault: what to play.
        :param method: only for this HTTP method; None for any.
        :param path: only for this path, or paths of this ``fnmatch`` pattern; None for any.
        :param times: how often; None for until cleared.
        :param after: matching requests that are let pass first.
        :param first: whether it goes before all others.
        """
        if (times is not None and times < 1) or after < 0:
            msg = f"times must be 1 or more (or None), after 0 or more, not {times!r} and {after!r}"
            raise ValueError(msg)
        rule = _Rule(fault, method.upper() if method else None, path, times, after)
        with self._lock:
            self._rules.insert(0 if first else len(self._rules), rule)

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._rules.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """
        Return the fault to play for a request, and count it.

        :param method: the request's HTTP method.
        :param path: its path, without the query.
        """
        with self._lock:
            for rule in self._rules:
                if rule.method not in (None, method) or not (rule.path is None or fnmatchcase(path, rule.path)):
                    continue
                if rule.after > 0:
                    rule.after -= 1
                    continue
                if rule.times is not None:
                    rule.times -= 1
                    if rule.times == 0:
                        self._rules.remove(rule)
                return rule.fault
        return None
