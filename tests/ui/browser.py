"""A headless Chromium of this machine: nothing is downloaded, and it talks to loopback alone."""

from __future__ import annotations

import os
import shutil
from typing import Final

__all__ = ["ARGUMENTS", "MISSING", "find_chromium"]

MISSING: Final = (
    "No Chromium on this machine. Install it (Debian, Ubuntu: apt-get install chromium), or name one:"
    " CHROMIUM=/path/to/chromium make ui-test"
)
# No sandbox: containers and root have none to offer. The others keep it from calling home.
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
)


def find_chromium() -> str | None:
    """Return the path of a Chromium or Chrome, None if there is none."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if name and (found := shutil.which(name))), None)
