"""What a person does with the connection form, whichever Airflow draws it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

__all__ = ["ConnectionForm"]


class ConnectionForm(ABC):
    """
    The pages on which connections are added, edited and tested.

    Fields go by the names that they have in a connection: ``host``, ``password``, ``timeout`` …

    :param page: The browser's tab.
    :param url: Where Airflow listens.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url

    @abstractmethod
    def log_in(self) -> None:
        """Log in, where Airflow asks for it."""

    @abstractmethod
    def new(self, conn_id: str, kind: str) -> None:
        """Open the form for a new connection and choose the type, by the name that the form shows."""

    @abstractmethod
    def edit(self, conn_id: str) -> None:
        """Open the form of a connection that exists."""

    @abstractmethod
    def show_extras(self) -> None:
        """Bring the fields of the extra into sight."""

    @abstractmethod
    def labels(self) -> list[str]:
        """Return the labels of the fields in sight, from top to bottom."""

    @abstractmethod
    def field(self, name: str) -> Locator:
        """Return the input of a field."""

    @abstractmethod
    def help(self, name: str) -> str:
        """Return the text below a field."""

    @abstractmethod
    def save(self) -> None:
        """Save, and wait until the list of connections has it."""

    @abstractmethod
    def test(self, conn_id: str) -> str:
        """Press Test (saving first, where Airflow wants that) and return the message, which stays in sight."""

    def fill(self, name: str, text: str) -> None:
        """Type into a field, and leave it."""
        self.field(name).fill(text)
        self.field(name).blur()

    def allow(self, name: str) -> None:
        """Say yes to a question."""
        self.fill(name, "true")

    def shown(self, name: str) -> str:
        """Return what a field shows: its text."""
        return self.field(name).input_value()

    def is_masked(self, name: str) -> bool:
        """Tell whether a field shows dots instead of what is typed."""
        return self.field(name).get_attribute("type") == "password"

    def placeholder(self, name: str) -> str | None:
        """Return the grey text of an empty field."""
        return self.field(name).get_attribute("placeholder")
