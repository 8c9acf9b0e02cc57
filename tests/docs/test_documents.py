"""The README and docs lead where they say, name what there is, and quote what the package says."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import airflow_provider_flokit
from tests.checkout import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")])


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link names a file of this repository, and its anchor a heading there."""
    for link in re.findall(r"\[[^\]]*\]\((?!https?:|mailto:)([^)\s]+)\)", path.read_text()):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert target.is_relative_to(REPOSITORY), link
        assert not anchor or anchor in anchors(target), link


def test_make_knows_every_target_that_is_named() -> None:
    """In prose and in commands."""
    targets = set(re.findall(r"^([\w.-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(path.read_text() for path in DOCUMENTS)
    named = set(re.findall(r"(?:^|`)make ([a-z][\w.-]*)", text, re.MULTILINE))
    assert "test" in named
    assert {name for name in named if not name.startswith("test-airflow-")} <= targets


def test_the_readme_is_short_and_leads_everywhere() -> None:
    """It has fewer than 900 words besides its code, and a link to every page of docs/."""
    assert len(re.sub(r"```.*?```", "", README, flags=re.DOTALL).split()) < 900
    assert [path.name for path in REPOSITORY.glob("docs/*.md") if f"(docs/{path.name}" not in README] == []


def test_versions_agree() -> None:
    """The changelog has this version; README, constraints and metadata name the same Airflows and Pythons."""
    changelog, versions = (REPOSITORY / "CHANGELOG.md").read_text(), (REPOSITORY / "docs/versions.md").read_text()
    assert f"## [{airflow_provider_flokit.__version__}]" in changelog
    constraints = (path.stem.removeprefix("airflow-") for path in (REPOSITORY / "constraints").glob("airflow-*.txt"))
    airflows = sorted(constraints, key=lambda version: [int(number) for number in version.split(".")])
    assert re.findall(r'^    "([0-9.]+)": \(', (REPOSITORY / "noxfile.py").read_text(), re.MULTILINE) == airflows
    for page in (README, changelog, versions):
        assert f"Airflow {airflows[0]} to {airflows[-1]}" in page
    assert "Python 3.11 to 3.13" in README
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert f"apache-airflow>={airflows[0]}" in project["dependencies"]
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= set(project["classifiers"])


def text_of(node: ast.AST) -> str:
    """Return the text of an expression, with a hole where something is put in when it runs."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(map(text_of, values))
        case ast.BinOp(left=left, right=right):
            return text_of(left) + text_of(right)
    return "\0"


SAID = "\n".join(
    text_of(node)
    for path in Path(airflow_provider_flokit.__file__).parent.rglob("*.py")
    for node in ast.walk(ast.parse(path.read_text()))
)
QUOTED = re.findall(
    r"^\| `(.+?)`[,*a-z ]*\|",
    (REPOSITORY / "docs/troubleshooting.md").read_text().partition("## Airflow's own messages")[0],
    re.MULTILINE,
)


@pytest.mark.parametrize("quote", QUOTED)
def test_the_package_says_what_troubleshooting_quotes(quote: str) -> None:
    """Somewhere in the package there is a message of these very words."""
    pieces = [piece.strip() for piece in re.split(r"HTTP \d\d\d|…", quote) if piece.strip(" ,")]
    assert pieces
    assert [piece for piece in pieces if piece not in SAID] == []
