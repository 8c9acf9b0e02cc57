"""The exception tree: what is permanent, what may be retried, and that Airflow tells them apart."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_flokit import errors
from airflow_provider_flokit.errors import FlokitError, FlokitRateLimitError, shown

PERMANENT = {
    "FlokitPermanentError",
    "FlokitConfigError",
    "FlokitArgumentError",
    "FlokitAuthenticationError",
    "FlokitPermissionError",
    "FlokitNotFoundError",
    "FlokitAmbiguousTypeError",
    "FlokitRequestError",
}
CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


def test_the_tree() -> None:
    """Every exception is drawn in the module's docstring, and no others; what no retry can mend spends none."""
    assert {kind.__name__ for kind in CLASSES} == set(re.findall(r"Flokit\w*Error", str(errors.__doc__)))
    assert {kind.__name__ for kind in CLASSES if issubclass(kind, AirflowFailException)} == PERMANENT
    assert all(issubclass(kind, FlokitError) and issubclass(kind, AirflowException) for kind in CLASSES)
    # As Python users expect of a wrong parameter.
    assert [kind.__name__ for kind in CLASSES if issubclass(kind, ValueError)] == ["FlokitArgumentError"]


@pytest.mark.parametrize(
    "error",
    [*(kind("x") for kind in CLASSES), FlokitRateLimitError("x", retry_after=7.0)],
    ids=lambda e: type(e).__name__,
)
def test_errors_survive_pickling(error: FlokitError) -> None:
    """Every exception is made of its message alone, and comes back from another process with all that it knows."""
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - own data
    assert (type(back), str(back), vars(back)) == (type(error), "x", vars(error))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two\nlines\r\n\tand  blanks ", "two lines and blanks"),
        ("Grüße — ✓", "Grüße — ✓"),
        ("escape\x1b[31m, right-to-left \u202e", "escape\\x1b[31m, right-to-left \\x202e"),
        ("x" * 501, "x" * 499 + "…"),
    ],
    ids=["lines", "letters", "invisible", "long"],
)
def test_a_text_from_outside_is_shown_on_one_line(text: object, expected: str) -> None:
    """It is printable, and cut at 500 characters."""
    assert shown(text) == expected
