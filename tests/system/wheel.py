"""The package as its users get it: a wheel, beside the Airflow of this environment and without this checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import airflow_provider_flokit

__all__ = ["build_wheel", "environment_with"]

REPOSITORY = Path(airflow_provider_flokit.__file__).parent.parent


def build_wheel(folder: Path) -> Path:
    """Build the wheel into a folder and return its path."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=120,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def environment_with(wheel: Path, folder: Path) -> Path:
    """
    Make an environment of the wheel and everything that is installed here but this package, and return its Python.

    What is installed here is linked, not copied; a wheel of plain Python modules is installed by unpacking it.
    """
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    packages = next(folder.glob("lib/python*/site-packages"))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "airflow_provider_flokit" not in entry.name:
            (packages / entry.name).symlink_to(entry)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    return python
