"""Fails unless exactly the lower bounds of the package's dependencies are installed here."""

import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

pyproject = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())
wrong = []
for line in pyproject["project"]["dependencies"]:
    requirement = Requirement(line)
    installed = Version(version(requirement.name))
    bounds = [Version(each.version) for each in requirement.specifier if each.operator == ">="]
    if bounds != [installed]:
        wrong.append(f"{line}: {installed} was installed, which is not its lower bound; raise the bound to it")
sys.exit("\n".join(wrong) or None)
