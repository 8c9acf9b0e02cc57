"""What the tests of the API share with those of the hooks."""

from __future__ import annotations

from tests.both_hooks import connect, hook, no_proxy_settings, pauses, sim

__all__ = ["connect", "hook", "no_proxy_settings", "pauses", "sim"]
