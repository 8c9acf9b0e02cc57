"""The README and docs lead where they say, and are of the size they should be."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest

import airflow_provider_flokit
from tests.docs.blocks import REPOSITORY, documents

if TYPE_CHECKING:
    from pathlib import Path

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PICTURE = re.compile(r"!" + _LINK.pattern)
_IDS = [str(path.relative_to(REPOSITORY)) for path in documents()]


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", documents(), ids=_IDS)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link names a file of this repository, and its anchor a heading there."""
    for link in _LINK.findall(path.read_text()):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert target.is_relative_to(REPOSITORY), link
        assert not anchor or anchor in anchors(target), link


def test_every_picture_is_shown() -> None:
    """Each file under docs/images is a picture in some document; none is kept for nothing."""
    shown = {(path.parent / link).resolve() for path in documents() for link in _PICTURE.findall(path.read_text())}
    pictures = set((REPOSITORY / "docs" / "images").iterdir())
    assert pictures
    assert pictures <= shown


def test_every_target_of_make_that_is_named_is_there() -> None:
    """What the prose tells to make, make knows."""
    targets = set(re.findall(r"^([\w.-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = {name for path in documents() for name in re.findall(r"`make ([\w.-]+)", path.read_text())}
    assert named
    assert {name for name in named if not name.startswith("test-airflow-")} <= targets


def test_the_readme_is_for_reading() -> None:
    """The README has fewer than 900 words besides its code; everything else is in docs/."""
    readme = (REPOSITORY / "README.md").read_text()
    assert len(re.sub(r"```.*?```|<!--.*?-->", "", readme, flags=re.DOTALL).split()) < 900


@pytest.mark.parametrize(
    "path", [path for path in documents() if path.parent == REPOSITORY / "docs"], ids=lambda path: path.name
)
def test_every_document_is_found_from_the_readme(path: Path) -> None:
    """The README links to every document."""
    assert f"docs/{path.name}" in (REPOSITORY / "README.md").read_text()


def test_the_changelog_tells_of_this_version() -> None:
    """The changelog has an entry for the package's version."""
    assert f"## [{airflow_provider_flokit.__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_the_supported_versions_are_those_that_are_tested() -> None:
    """README, constraints and metadata agree on the versions of Airflow and Python."""
    airflows = sorted(path.stem.removeprefix("airflow-") for path in (REPOSITORY / "constraints").glob("airflow-*.txt"))
    readme = (REPOSITORY / "README.md").read_text()
    assert f"Airflow {airflows[0]} to {airflows[-1]}, Python 3.11 to 3.13" in readme
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert f"apache-airflow>={airflows[0]}" in project["dependencies"]
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= set(project["classifiers"])
