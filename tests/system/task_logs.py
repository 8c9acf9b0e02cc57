"""Task logs as a person reads them: Airflow 2 writes text, Airflow 3 one JSON object per line."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_ATTEMPT = re.compile(r"attempt=(\d+)\.log")
_STAMP = re.compile(r"^\[?(\d{4}-\d\d-\d\d[T ][0-9:.,+-]+)")


def read_task_log(folder: Path, try_number: int | None = None) -> str:
    """
    Return what one try of a task logged in workers and in the triggerer, in order of time.

    :param folder: The task instance's log folder.
    :param try_number: Which try; the newest that has logged if None. Empty text: nothing logged yet.
    """
    tries = [(int(found[1]), file) for file in folder.glob("attempt=*") if (found := _ATTEMPT.match(file.name))]
    if try_number is None:
        try_number = max((number for number, _ in tries), default=0)
    entries: list[tuple[str, str]] = []
    for number, file in sorted(tries):
        if number == try_number:
            entries += _entries(file)
    return "\n".join(text for _, text in sorted(entries, key=lambda entry: entry[0]))


def _entries(file: Path) -> list[tuple[str, str]]:
    """Return a file's entries as (time, text); a line without a time belongs to the one before it."""
    entries: list[tuple[str, str]] = []
    for line in file.read_text(errors="replace").splitlines():
        stamp = entries[-1][0] if entries else ""
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict):
            stamp = str(record.get("timestamp") or stamp).replace("Z", "+00:00")
            entries.append((stamp, _record_text(record)))
        else:
            found = _STAMP.match(line)
            entries.append((found[1] if found else stamp, line))
    return entries


def _record_text(record: dict[str, Any]) -> str:
    level = str(record.get("level", "info")).upper()
    lines = [f"[{record.get('timestamp', '')}] {level} - {record.get('event', '')}"]
    for error in record.get("error_detail") or []:
        lines += [f"  {at['filename']}:{at['lineno']} in {at['name']}" for at in error.get("frames") or []]
        lines.append(f"{error.get('exc_type')}: {error.get('exc_value')}")
    return "\n".join(lines)
