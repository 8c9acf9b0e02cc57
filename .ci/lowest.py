"""Fails unless exactly the lower bounds of the package's dependencies, extras included, are installed here."""

import sys
import tomllib
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
wrong = []
for line in [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]:
    requirement = Requirement(line)
    installed = Version(version(requirement.name))
    bounds = [Version(each.version) for each in requirement.specifier if each.operator == ">="]
    if bounds != [installed]:
        wrong.append(f"{line}: {installed} was installed, which is not its lower bound; raise the bound to it")
sys.exit("\n".join(wrong) or None)
