"""The environment of the benchmarks: the newest Airflow as the tests have it, the peers, and what draws the picture."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_NEWEST: Final = max(
    (path.stem.removeprefix("airflow-") for path in (ROOT / "constraints").glob("airflow-*.txt")),
    key=lambda version: [int(number) for number in version.split(".")],
)
_CONSTRAINTS: Final = ROOT / "constraints" / f"airflow-{_NEWEST}.txt"
_REQUIREMENTS: Final = ROOT / "benchmarks" / "requirements.txt"


def prepare() -> Path:
    """Return the Python of the environment, which is made, or made anew, if need be."""
    venv = ROOT / ".venv" / f"bench-py{sys.version_info.major}.{sys.version_info.minor}"
    python = venv / "bin" / "python"
    made_from = venv / ".made-from"
    wanted = str(zlib.crc32(_CONSTRAINTS.read_bytes() + _REQUIREMENTS.read_bytes()))
    if made_from.exists() and made_from.read_text() == wanted:
        return python
    sys.stderr.write(f"-- installing Airflow {_NEWEST} and the peers into {venv.relative_to(ROOT)}\n")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)  # noqa: S603 - this very interpreter
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    files = ["--constraint", str(_CONSTRAINTS), "--requirement", str(_REQUIREMENTS)]
    subprocess.run([*install, *files, "apache-airflow"], check=True)  # noqa: S603 - its pip
    made_from.write_text(wanted)
    return python


def versions(python: Path) -> dict[str, str]:
    """
    Return the installed version of each package.

    :param python: The Python of the environment.
    """
    listing = "import importlib.metadata as m; [print(d.name.lower(), d.version) for d in m.distributions()]"
    command = [str(python), "-c", listing]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - its interpreter
    return dict(line.split() for line in done.stdout.splitlines())
