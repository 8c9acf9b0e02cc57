"""Where things are in the checkout that these tests belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[1]
EXAMPLE_DAGS: Final = REPOSITORY / "example_dags"
