"""
Taking secrets out of texts from outside, in every form that they are likely to come in.

Pure. A server may repeat the API key in a message, a redirect or a header, and a proxy in front of it may encode what
it repeats.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MASK: Final = "***"
_ESCAPES: Final = ("%", "&", "\\")

_SHORTEST_BASE64: Final = 4
"""Characters below which the middle of a base64 text is too common a text to be taken for a secret."""


class Redactor:
    """
    Finds secrets and takes them out.

    :param secrets: Texts to find; empty ones are left out.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        self._plain = tuple({form.lower() for secret in known for form in _plain_forms(secret)})
        # No usual encoding takes more characters for one; a piece that was cut off is shorter.
        self._longest = 16 * max(map(len, known), default=0)
        self._pattern = re.compile("|".join(map(_pattern, known))) if known else None

    def clean(self, text: str) -> str:
        """
        Return a text without the secrets.

        :param text: A text from outside.
        """
        # The pattern takes half a microsecond for each character.
        if self._pattern is None or not (any(sign in text for sign in _ESCAPES) or self.finds_plain(text)):
            return text
        return self._pattern.sub(_MASK, text)

    def finds_plain(self, text: str) -> bool:
        """
        Tell, at little cost, whether a text holds a secret as it stands, URL-encoded, in hexadecimal or in base64.

        :param text: A text that may be long.
        """
        lower = text.lower()
        return any(form in lower for form in self._plain)

    def clean_start(self, text: str, length: int) -> str:
        """
        Return the start of a text without the secrets, also without a piece of one where it ends.

        :param text: A text from outside, however long.
        :param length: Characters to return at most, and to look at little more than.
        """
        window = length + 2 * self._longest
        if len(text) <= window:
            return self.clean(text)
        cleaned = self.clean(text[:window])
        return cleaned[: max(len(cleaned) - self._longest, 0)]


def proxy_passwords(proxies: Iterable[str]) -> set[str]:
    """
    Return the passwords in URLs of proxies, as they stand there and decoded.

    :param proxies: The URLs; what is none is left out.
    """
    found: set[str] = set()
    for url in proxies:
        try:
            password = urlsplit(url).password
        except ValueError:
            continue
        if password:
            found |= {password, unquote(password)}
    return found


def _plain_forms(secret: str) -> set[str]:
    data = secret.encode(errors="surrogatepass")
    middles = [middle for _, middle, _ in _middles(data)]
    urlsafe = [middle.translate(str.maketrans("+/", "-_")) for middle in middles]
    encoded = quote(secret, safe="", errors="surrogatepass")
    return {secret, secret.replace(" ", "+"), encoded, data.hex(), data.hex().upper(), *middles, *urlsafe}


def _pattern(secret: str) -> str:
    data = secret.encode(errors="surrogatepass")
    # Libraries and servers write hosts and names of encodings in lower case.
    return "|".join([f"(?i:{''.join(map(_character, secret))})", f"(?i:{data.hex()})", *_base64(data)])


def _character(char: str) -> str:
    r"""Match a character as it stands, after backslashes, or as ``%2f``, ``%252f``, ``\u002f``, ``\x2f``, ``&#47;``."""
    number = ord(char)
    encoded = "".join(f"%(?:25)*{byte:02x}" for byte in char.encode(errors="surrogatepass"))
    forms = [re.escape(char), rf"(?i:{encoded}|u{number:04x}|x{number:02x})"]
    if char == " ":
        forms.append(r"\+")
    return rf"(?:\\{{0,3}}(?:{'|'.join(forms)})|&#(?:{number}|(?i:x{number:x}));)"


def _base64(data: bytes) -> list[str]:
    found = []
    for before, middle, after in _middles(data):
        # The characters at its edges hold bits of the secret and of its neighbours.
        edge = "[A-Za-z0-9+/_-]?"
        text = "".join({"+": "(?:[+-]|%2[Bb])", "/": "(?:[/_]|%2[Ff])"}.get(c, c) for c in middle)
        found.append((edge if before else "") + text + (edge if after else ""))
    return found


def _middles(data: bytes) -> Iterator[tuple[bool, str, bool]]:
    """Yield what stands in the base64 of any text that holds the data, for each of three places where it can begin."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).decode()
        begin, bits = (0, 2, 3)[before], (before + len(data)) * 8
        if len(middle := encoded[begin : bits // 6]) >= _SHORTEST_BASE64:
            yield before > 0, middle, bits % 6 > 0
