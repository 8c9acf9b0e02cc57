"""
Deprecations of what this project itself does, in tests that let Airflow's own warnings pass.

Airflow's machinery warns of itself wherever it runs a task, so such tests cannot take every warning for an error.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.checkout import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

# The docs' code blocks are compiled under the name of their document.
_PLACES: Final = tuple(
    str(REPOSITORY / place) for place in ("airflow_provider_flokit/", "example_dags/", "docs/", "README.md")
)
_NAMES: Final = ("airflow_provider_flokit", "airflow-provider-flokit")
_DEPRECATIONS: Final = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)


def is_ours(filename: str, message: object) -> bool:
    """
    Tell whether a warning comes from this project's files, or names this package.

    :param filename: The file that it is attributed to.
    :param message: What it says.
    """
    return str(REPOSITORY / filename).startswith(_PLACES) or any(name in str(message) for name in _NAMES)


@contextmanager
def ours_fail() -> Iterator[None]:
    """Raise an AssertionError at the end if anything of ours was told to be deprecated; hand on all other warnings."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    ours = []
    for each in caught:
        if issubclass(each.category, _DEPRECATIONS) and is_ours(each.filename, each.message):
            ours.append(each)
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    assert not ours, "\n".join(map(str, ours))
