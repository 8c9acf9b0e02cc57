"""What is shipped: the wheel holds the package and nothing else, the source distribution no more than its sources."""

from __future__ import annotations

import email
import re
import tarfile
import tomllib
import zipfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from tests.checkout import REPOSITORY
from tests.system.distribution import NAME

if TYPE_CHECKING:
    from tests.system.distribution import Distributions

PACKAGE = REPOSITORY / "airflow_provider_flokit"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
DIST_INFO = f"{NAME}.dist-info"


def sources() -> set[str]:
    """Return the package's files, as Git would have them."""
    return {
        path.relative_to(REPOSITORY).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix in (".py", ".typed", ".html", ".css", ".js")
    }


def test_the_wheel_holds_only_the_package(distributions: Distributions) -> None:
    """Every file of the package, its metadata and licence, and dependencies without upper bounds."""
    assert set(distributions.wheel.parent.iterdir()) == set(distributions)
    with zipfile.ZipFile(distributions.wheel) as archive:
        names = set(archive.namelist())
        metadata = email.message_from_bytes(archive.read(f"{DIST_INFO}/METADATA"))
    about = {f"{DIST_INFO}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    assert names == sources() | about
    asked = {Requirement(line) for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert asked == {Requirement(line) for line in PROJECT["project"]["dependencies"]}
    assert {each.operator for requirement in asked for each in requirement.specifier} == {">="}


def test_the_source_distribution_holds_only_sources(distributions: Distributions) -> None:
    """The package, what builds and tests it, and what is read first; nothing that a machine left behind."""
    with tarfile.open(distributions.sdist) as archive:
        names = {PurePosixPath(name).relative_to(NAME) for name in archive.getnames()}
    included = {entry.strip("/") for entry in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]}
    # What hatchling adds by itself.
    added = {"PKG-INFO", "pyproject.toml", "README.md", "LICENSE", ".gitignore"}
    assert {name.parts[0] for name in names} == included | added
    assert {str(name) for name in names if name.parts[0] == PACKAGE.name} == sources()
    assert [name for name in names if name.suffix in (".pyc", ".db", ".log", ".key", ".pem", ".env")] == []


def test_no_file_names_a_registry() -> None:
    """Constraints are plain ``name==version`` lines: nothing in them leads to a place of its own."""
    files = sorted((REPOSITORY / "constraints").glob("*.txt"))
    assert files
    for file in files:
        for line in file.read_text().splitlines():
            assert line.startswith("#") or re.fullmatch(r"[a-z0-9-]+==[\w.]+", line), f"{file.name}: {line}"
