"""What must not be found of a secret, and where to look for it."""

from __future__ import annotations

import traceback
from typing import Any
from urllib.parse import quote


def forms_of(secret: str) -> set[str]:
    """Return what must not be found: the secret, percent-encoded too, and its beginning, as a cut would leave it."""
    return {secret, quote(secret, safe=""), secret[:12]}


def shown_by(thing: Any) -> str:
    """Return what a thing shows of itself; an exception its traceback too, with all that a log prints of its causes."""
    chain = traceback.format_exception(thing) if isinstance(thing, Exception) else []
    return "\n".join([str(thing), repr(thing), *chain])
