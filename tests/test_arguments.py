"""What a DAG author may give, as a value, a rendered template or its text, and how each refusal reads."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any, overload

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_flokit.arguments import flag, is_many, moment, one_text, receipts_of, seconds, texts
from airflow_provider_flokit.errors import FlokitArgumentError
from airflow_provider_flokit.models import Integration, SyncReceipt

NOON = datetime(2024, 3, 15, 12, tzinfo=UTC)
RECEIPTS = {i: SyncReceipt(i, Integration(i, "stripe", "connected", NOON), NOON, f"sync_{i}") for i in ("a", "b")}
A, B = (receipt.to_json() for receipt in RECEIPTS.values())
DEEP = pytest.param("[" * 100_000, id="deeply nested")


class Lazy(Sequence[Any]):
    """A sequence that is no list, as XComs of mapped tasks are."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self.items[index]


# Numbers and flags


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1.0), (0.25, 0.25), (3600, 3600.0), (timedelta(minutes=2), 120.0), (timedelta(milliseconds=5), 0.005)],
)
@pytest.mark.parametrize("zero", [False, True])
def test_seconds(value: object, expected: float, *, zero: bool) -> None:
    """A length of time is a number of seconds or a timedelta."""
    found = seconds(value, "timeout", zero=zero)
    assert (found, type(found)) == (expected, float)


@pytest.mark.parametrize("value", [0, 0.0, timedelta()])
def test_zero_seconds(value: object) -> None:
    """Zero is accepted only where it makes sense."""
    assert seconds(value, "start_timeout", zero=True) == 0.0
    with pytest.raises(FlokitArgumentError, match=r"timeout is 0: it must be more than 0 seconds"):
        seconds(value, "timeout")


@pytest.mark.parametrize("value", [-1, -0.5, timedelta(seconds=-1)])
def test_negative_seconds(value: object) -> None:
    """A negative length of time is refused, in the words of the limit that holds."""
    with pytest.raises(FlokitArgumentError, match=r"timeout is -.*: it must be more than 0 seconds"):
        seconds(value, "timeout")
    with pytest.raises(FlokitArgumentError, match=r"start_timeout is -.*: it must be 0 or more seconds"):
        seconds(value, "start_timeout", zero=True)


@pytest.mark.parametrize("value", ["60", None, True, False, [], float("nan"), float("inf"), float("-inf"), 1j])
def test_no_seconds(value: object) -> None:
    """What is no finite number is refused by the parameter's name."""
    with pytest.raises(FlokitArgumentError, match=r"poll_interval is .*: give a number of seconds or a timedelta"):
        seconds(value, "poll_interval")


def test_integer_that_is_no_float() -> None:
    """An integer beyond all floats is refused like any other nonsense."""
    with pytest.raises(FlokitArgumentError, match="timeout"):
        seconds(10**400, "timeout")


@pytest.mark.parametrize("value", [1e300, 10**12, timedelta.max, timedelta(days=36600)])
def test_too_many_seconds(value: object) -> None:
    """More than a century is refused at once: Airflow's clock would overflow at the deferral."""
    with pytest.raises(FlokitArgumentError, match=r"timeout is .*: it must be at most .* seconds, a century"):
        seconds(value, "timeout")
    assert seconds(timedelta(days=36500), "timeout") == 36500 * 86400


@pytest.mark.parametrize("value", [True, False])
def test_flag(*, value: bool) -> None:
    """A flag is True or False."""
    assert flag(value, "deferrable") is value


@pytest.mark.parametrize("value", [None, 0, 1, "true", "", []])
def test_no_flag(value: object) -> None:
    """Anything else is refused by the parameter's name: the text "false" would count as true."""
    with pytest.raises(FlokitArgumentError, match=r"deferrable is .*: give True or False"):
        flag(value, "deferrable")


# Texts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("int_1", ("int_1",)),
        (["int_1"], ("int_1",)),
        (["int_2", "int_1"], ("int_2", "int_1")),
        (("int_1", "int_2"), ("int_1", "int_2")),
        ({"int_1"}, ("int_1",)),
        (frozenset({"int_1"}), ("int_1",)),
        (Lazy("int_1", "int_2"), ("int_1", "int_2")),
        (["int_1", "int_2", "int_1"], ("int_1", "int_2")),
        ('["int_1", "int_2"]', ("int_1", "int_2")),
        ("['int_1', 'int_2']", ("int_1", "int_2")),
        ("('int_1', 'int_2')", ("int_1", "int_2")),
        (" ['int_1'] ", ("int_1",)),
        ("[int_1", ("[int_1",)),
        ("(int_1)", ("(int_1)",)),
        ("None_of_these", ("None_of_these",)),
    ],
)
def test_texts(value: object, expected: tuple[str, ...]) -> None:
    """One text, several, or what a template made of several: in order, without repetitions."""
    assert texts(value, "integration_id") == expected


@pytest.mark.parametrize("value", ["", "  ", "None", "null", "[]", [], (), set(), Lazy(), "()", "[ ]", " None "])
def test_no_texts_at_all(value: object) -> None:
    """An empty list, and a template that rendered to nothing, is refused by the parameter's name."""
    with pytest.raises(FlokitArgumentError, match=r"integration_id is empty: there is nothing to wait for"):
        texts(value, "integration_id")


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        True,
        b"int_1",
        {"id": "int_1"},
        '{"id": "int_1"}',
        ["int_1", None],
        ["int_1", ""],
        ["None"],
        [["a"]],
        "[1]",
    ],
)
def test_something_else_than_texts(value: object) -> None:
    """What is no text is refused, and shown."""
    with pytest.raises(FlokitArgumentError, match=r"integration_id holds .*, which is no text"):
        texts(value, "integration_id")


@pytest.mark.parametrize(
    "value", [DEEP, pytest.param("(" * 10_000, id="deeply nested tuple"), "['\\", "{{}}", "[{[]: 1}]"]
)
def test_text_that_resembles_a_list(value: str) -> None:
    """A text that no list can be read from is a text."""
    assert texts(value, "integration_id") == (value,)


@pytest.mark.parametrize(
    "value", ["[\x00]", " int_1", "int_1\n", ["a", "b "], "['a ']", "in\x1b[31mt", "a\nb", "\ud800"]
)
def test_texts_with_something_odd_around_or_in_them(value: object) -> None:
    """Spaces around a text and control characters in it are a template's mistake, and refused before any request."""
    with pytest.raises(FlokitArgumentError, match=r"integration_type holds .*spaces around it or control characters"):
        texts(value, "integration_type")


def test_one_text() -> None:
    """Where only one can be given, one is returned."""
    assert one_text("int_1", "integration_id") == "int_1"


@pytest.mark.parametrize("value", [["int_1"], ["int_1", "int_2"], [], "['int_1']", ("int_1",), Lazy("int_1")])
def test_one_text_refuses_lists(value: object) -> None:
    """Where only one can be given, a list is refused with a hint at mapping, even a list of one."""
    with pytest.raises(FlokitArgumentError, match=r"integration_id is a list; give one, or map the task .* expand"):
        one_text(value, "integration_id")


@pytest.mark.parametrize("value", [None, "", "None", 5])
def test_one_text_refuses_nothing(value: object) -> None:
    """Where only one can be given, none is refused too."""
    with pytest.raises(FlokitArgumentError, match="integration_id"):
        one_text(value, "integration_id")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", False),
        (["a"], True),
        (("a",), True),
        ({"a"}, True),
        (frozenset("a"), True),
        (Lazy("a"), True),
        ("['a']", True),
        ('["a"]', True),
        ("[a", False),
        (b"a", False),
        ({"a": 1}, False),
        ('{"a": 1}', False),
        (None, False),
        (RECEIPTS["a"], False),
    ],
)
def test_is_many(value: object, *, expected: bool) -> None:
    """A list, a set or the text of a list is several, even if it holds one; a receipt is one."""
    assert is_many(value) is expected


@given(st.text())
def test_any_text_is_texts_or_refused(text: str) -> None:
    """Whatever text a template renders to, it is texts or refused with a FlokitArgumentError."""
    with contextlib.suppress(FlokitArgumentError):
        assert all(isinstance(item, str) and item.strip() for item in texts(text, "integration_id"))


# Receipts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (RECEIPTS["a"], ["a"]),
        (A, ["a"]),
        (MappingProxyType(A), ["a"]),
        (json.dumps(A), ["a"]),
        (str(A), ["a"]),
        ([A, B], ["a", "b"]),
        ([B, A], ["b", "a"]),
        (Lazy(A, B), ["a", "b"]),
        ((RECEIPTS["a"], json.dumps(B)), ["a", "b"]),
        (json.dumps([A, B]), ["a", "b"]),
        (str([A, B]), ["a", "b"]),
    ],
)
def test_receipts(value: object, expected: list[str]) -> None:
    """A receipt may be the model, its JSON as dict or text, or a list of such; they come back by id, in order."""
    found = receipts_of(value)
    assert list(found) == expected
    assert all(found[i] == RECEIPTS[i] for i in expected)


@pytest.mark.parametrize("value", ["", "None", "[]", [], ()])
def test_no_receipts(value: object) -> None:
    """No receipt at all is refused."""
    with pytest.raises(FlokitArgumentError, match="receipt is empty"):
        receipts_of(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "sync_1",
        "{",
        {},
        [None],
        [A, {}],
        [[A]],
        {**A, "triggered_at": None},
        {**A, "baseline": B["baseline"]},
        {**A, "integration_id": ""},
    ],
)
def test_something_else_than_receipts(value: object) -> None:
    """What is no receipt is refused, and the error says where to take one from."""
    with pytest.raises(FlokitArgumentError, match=r'receipt is no receipt .* receipt=sync\.output\["receipt"\]'):
        receipts_of(value)


def test_two_receipts_for_one_integration() -> None:
    """Two syncs of one integration cannot be told apart, so two receipts for it are refused."""
    with pytest.raises(FlokitArgumentError, match="two receipts for 'a'"):
        receipts_of([A, B, A])


@pytest.mark.parametrize("bad", ["../x", "a/b", "a?b", "a b", "."])
def test_receipt_with_an_id_that_no_url_can_hold(bad: str) -> None:
    """An id inside a receipt is checked like any other."""
    with pytest.raises(FlokitArgumentError, match="receipt's integration_id"):
        receipts_of({**A, "integration_id": bad, "baseline": {**A["baseline"], "id": bad}})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.just(A),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_anything_is_receipts_or_refused(value: object) -> None:
    """Whatever an XCom holds, it is receipts or refused with a FlokitArgumentError."""
    with contextlib.suppress(FlokitArgumentError):
        assert isinstance(receipts_of(value), Mapping)


# Moments


@pytest.mark.parametrize(
    "value",
    [
        NOON,
        NOON.replace(tzinfo=None),
        NOON.astimezone(timezone(timedelta(hours=-7))),
        "2024-03-15T12:00:00Z",
        "2024-03-15T12:00:00+00:00",
        "2024-03-15 14:00:00+02:00",
        "2024-03-15T12:00:00",
    ],
)
def test_moment(value: object) -> None:
    """A moment is a datetime or an ISO 8601 text, in any zone; a naive one is UTC."""
    found = moment(value)
    assert (found, found.tzinfo) == (NOON, UTC)


@pytest.mark.parametrize("value", ["", "None", "yesterday", None, 20240315, 1.5, True, date(2024, 3, 15), [], [NOON]])
def test_no_moment(value: object) -> None:
    """What is neither is refused by name, with a hint at runs that have no data interval."""
    with pytest.raises(FlokitArgumentError, match=r"synced_after: .*data_interval_end.*run_after"):
        moment(value)


@pytest.mark.parametrize(
    "value",
    [
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-14))),
        "0001-01-01T00:00:00+14:00",
    ],
)
def test_moment_beyond_the_calendar(value: object) -> None:
    """A time that UTC cannot express is refused by name, as a datetime and as a text."""
    with pytest.raises(FlokitArgumentError, match="synced_after"):
        moment(value)
