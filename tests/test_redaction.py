"""Secrets are found in any usual form, at a cost that does not grow with what a server says."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from airflow_provider_flokit.redaction import Redactor

KEY = "fk_live_AbCdEfGhIjKlMnOp99"


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        KEY.lower(),
        KEY.upper(),
        quote(KEY, safe=""),
        "".join(f"%{ord(c):02X}" for c in KEY),
        "".join(f"&#{ord(c)};" for c in KEY),
        KEY.encode().hex(),
        base64.b64encode(KEY.encode()).decode(),
    ],
)
def test_every_form_is_taken_out(form: str) -> None:
    """Hosts and names of encodings are written in lower case, so the case of letters does not matter."""
    cleaned = Redactor([KEY]).clean(f"https://{form}.example/")
    assert form not in cleaned
    assert "***" in cleaned


def test_a_text_without_a_secret_stays_as_it_is() -> None:
    """Nothing else is touched."""
    text = "100 % of fk_live & more\\n"
    assert Redactor([KEY]).clean(text) == text
    assert Redactor([]).clean(KEY) == KEY


@pytest.mark.parametrize("before", range(480, 530))
def test_the_start_of_a_long_text_ends_with_no_piece_of_a_secret(before: int) -> None:
    """Wherever the text is cut, no part of a key that stands there is left."""
    redactor = Redactor([KEY])
    start = redactor.clean_start("x" * before + KEY * 100_000, 500)
    assert "fk_" not in start
    assert "AbCd" not in start
    assert start.startswith("x" * 50)


def test_the_start_of_a_long_text_is_long_enough() -> None:
    """As much as was asked for is there, if nothing had to be taken out."""
    text = "abc % " * 100_000
    assert Redactor([KEY]).clean_start(text, 500).startswith(text[:500])
    assert Redactor([KEY]).clean_start("short & plain", 500) == "short & plain"
