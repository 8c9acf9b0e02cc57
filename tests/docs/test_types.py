"""What a user copies from the README and docs passes their type checker."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from tests.docs.blocks import KINDS, blocks, gate

if TYPE_CHECKING:
    from pathlib import Path

WRONG = """\
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator

FlokitTriggerSyncOperator(task_id="sync", integration_id=7)
"""


@pytest.mark.skipif(
    not AIRFLOW_V_3_3_PLUS, reason="the types of tasks and outputs are Airflow's, and the docs follow the newest"
)
def test_blocks_pass_mypy(tmp_path: Path) -> None:
    """Every Python block does, and mypy looks into this package: a wrong call beside them is all that it finds."""
    python = [
        kind for kind, (language, _) in KINDS.items() if language == "python" and kind not in ("before", "signature")
    ]
    files = {re.sub(r"\W", "_", block.name) + ".py": block.code for block in blocks(*python)}
    for name, code in {**files, "warehouse.py": gate().code, "wrong.py": WRONG}.items():
        (tmp_path / name).write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", "--check-untyped-defs", "--hide-error-context", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    *errors, summary = done.stdout.splitlines()
    assert len(errors) == 1, done.stdout + done.stderr
    assert errors[0].startswith('wrong.py:3: error: Argument "integration_id"')
    assert f"checked {len(files) + 2} source files" in summary
