"""The exception tree: what is permanent, what may be retried, and that Airflow tells them apart."""

from __future__ import annotations

import inspect
import pickle

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_flokit import errors
from airflow_provider_flokit.errors import FlokitAPIError, FlokitError, shown

# Every class with its parent inside the package, and whether a retry of the task makes sense.
TREE = {
    "FlokitError": ("", True),
    "FlokitPermanentError": ("FlokitError", False),
    "FlokitConfigError": ("FlokitPermanentError", False),
    "FlokitArgumentError": ("FlokitPermanentError", False),
    "FlokitAuthenticationError": ("FlokitPermanentError", False),
    "FlokitPermissionError": ("FlokitPermanentError", False),
    "FlokitNotFoundError": ("FlokitPermanentError", False),
    "FlokitAmbiguousTypeError": ("FlokitPermanentError", False),
    "FlokitRequestError": ("FlokitPermanentError", False),
    "FlokitAPIError": ("FlokitError", True),
    "FlokitUnreachableError": ("FlokitAPIError", True),
    "FlokitRateLimitError": ("FlokitAPIError", True),
    "FlokitServerError": ("FlokitAPIError", True),
    "FlokitResponseError": ("FlokitAPIError", True),
    "FlokitConnectionNotFoundError": ("FlokitError", True),
    "FlokitSyncAlreadyRunningError": ("FlokitError", True),
    "FlokitSyncFailedError": ("FlokitError", True),
    "FlokitDisconnectedError": ("FlokitSyncFailedError", True),
    "FlokitWaitTimeoutError": ("FlokitError", True),
}
CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and kind.__module__ == errors.__name__ and issubclass(kind, BaseException)
}


def test_tree_is_complete() -> None:
    """Every exception of the package is in the tree, here and in the module's docstring."""
    assert set(CLASSES) == set(TREE)
    assert all(name in str(errors.__doc__) for name in TREE)


@pytest.mark.parametrize("name", TREE)
def test_tree(name: str) -> None:
    """Each exception has its place below FlokitError and AirflowException, and a docstring."""
    kind, (parent, _) = CLASSES[name], TREE[name]
    assert issubclass(kind, FlokitError)
    assert issubclass(kind, AirflowException)
    assert kind.__doc__
    assert parent == "" or kind.__base__ is CLASSES[parent]


@pytest.mark.parametrize("name", TREE)
def test_permanent_errors_burn_no_retries(name: str) -> None:
    """What no retry can mend derives from AirflowFailException, and nothing else does."""
    assert issubclass(CLASSES[name], AirflowFailException) is not TREE[name][1]


def test_argument_error_is_a_value_error() -> None:
    """A wrong parameter is a ValueError too, as Python users expect; nothing else is."""
    assert [name for name, kind in CLASSES.items() if issubclass(kind, ValueError)] == ["FlokitArgumentError"]


@pytest.mark.parametrize("name", TREE)
def test_errors_survive_pickling(name: str) -> None:
    """Every exception is made of its message alone, cut at 10,000 characters, and comes back from another process."""
    for message, kept in (("what is wrong", "what is wrong"), ("x" * 10_001, "x" * 9_999 + "…")):
        error = CLASSES[name](message)
        back = pickle.loads(pickle.dumps(error))  # noqa: S301 - own data
        assert str(error) == str(back) == kept
        assert type(back) is CLASSES[name]


def test_retry_after_is_kept() -> None:
    """An API error knows when the server asked to come back, after pickling too."""
    assert FlokitAPIError("x").retry_after is None
    error = errors.FlokitRateLimitError("x", retry_after=7.0)
    assert pickle.loads(pickle.dumps(error)).retry_after == error.retry_after == 7.0  # noqa: S301 - own data


# Texts from outside


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("two\nlines\r\n\tand  blanks ", "two lines and blanks"),
        ("Grüße — ✓", "Grüße — ✓"),
        ("bell\x07 and escape\x1b[31m", "bell\\x07 and escape\\x1b[31m"),
        ("right-to-left \u202e override", "right-to-left \\x202e override"),
        ("x" * 501, "x" * 499 + "…"),
        (404, "404"),
    ],
)
def test_shown(text: object, expected: str) -> None:
    """A text from outside is shown on one line, printable, and cut at 500 characters."""
    assert shown(text) == expected


@given(st.text(st.characters(), max_size=1200))
def test_shown_is_always_one_printable_line(text: str) -> None:
    """Whatever the text, what is shown is at most 500 printable characters, which a log in UTF-8 can hold."""
    line = shown(text)
    assert len(line) <= 500
    assert line.isprintable()
    assert line.encode().decode() == line
