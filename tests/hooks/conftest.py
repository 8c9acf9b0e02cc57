"""What the tests of the hooks share with those of the API."""

from __future__ import annotations

from tests.both_hooks import connect, hook, no_proxy_settings, pauses, sim

__all__ = ["connect", "hook", "no_proxy_settings", "pauses", "sim"]
