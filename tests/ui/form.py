"""What a person does with the connection form. Fields go by their names in a connection: ``host``, ``timeout`` ..."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from tests.system.settings import AIRFLOW_3

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

USER: Final = "admin"
STANDARD: Final = ("host", "schema", "login", "password", "port", "description")


class Airflow3Form:
    """A dialog over the list of connections, Test buttons in the list; everybody is an administrator here."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url

    def log_in(self) -> None:
        """Open the home page: whoever comes in elsewhere is let in, and led there, by some versions."""
        self.page.goto(self.url)
        self.page.get_by_role("button", name="Admin").wait_for()

    def new(self, conn_id: str, kind: str) -> None:
        """Open the form for a new connection and choose the type, by the name that the form shows."""
        self.page.goto(f"{self.url}/connections")
        self.page.get_by_role("button", name="Add Connection").first.click()
        self._dialog().locator("[name=connection_id]").fill(conn_id)
        self._dialog().get_by_role("combobox").first.click()
        self.page.get_by_role("option", name=kind, exact=True).click()

    def edit(self, conn_id: str) -> None:
        """Open the form of a connection that exists."""
        self.page.goto(f"{self.url}/connections")
        self._row(conn_id).get_by_role("button", name="Edit Connection").click()
        self._dialog().get_by_text("API URL").wait_for()

    def show_extras(self) -> None:
        """Bring the fields of the extra of a new connection into sight."""
        self._dialog().get_by_role("button", name="Extra Fields", exact=True).click()
        self.field("timeout").wait_for()

    def labels(self) -> list[str]:
        """Return the labels of the fields in sight."""
        return self._visible(self._dialog().locator("label"))

    def field(self, name: str) -> Locator:
        """Return the input of a field."""
        return self._dialog().locator(f"[name={name if name in STANDARD else f'element_{name}'}]")

    def help(self, name: str) -> str:
        """Return the text below a field."""
        described = str(self.field(name).get_attribute("aria-describedby")).split()
        return " ".join(self.page.locator(f"[id='{identity}']").inner_text() for identity in described)

    def fill(self, name: str, text: str) -> None:
        """Type into a field, and leave it."""
        self.field(name).fill(text)
        self.field(name).blur()

    def allow(self, name: str) -> None:
        """Say yes to a question; the box itself is out of sight, behind a switch."""
        self.field(name).locator("xpath=..").click()

    def save(self) -> None:
        """Save, and wait until the dialog is gone."""
        self._dialog().get_by_role("button", name="Save").click()
        self._dialog().wait_for(state="hidden")

    def test(self, conn_id: str) -> str:
        """Save, press Test in the connection's row, and return the message, which stays in sight."""
        self.save()
        self.page.goto(f"{self.url}/connections")
        self._row(conn_id).get_by_role("button", name="Test Connection").click()
        return self.page.locator("[data-scope=toast][data-part=root]").inner_text()

    def _dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    def _row(self, conn_id: str) -> Locator:
        return self.page.get_by_role("row").filter(has=self.page.get_by_text(conn_id, exact=True))

    @staticmethod
    def _visible(labels: Locator) -> list[str]:
        texts = [label.inner_text().replace("*", "").strip() for label in labels.all() if label.is_visible()]
        return [text for text in texts if text]


class Airflow2Form(Airflow3Form):
    """Pages of Flask-AppBuilder behind a login: all fields on one page, and the Test button beside Save."""

    def log_in(self) -> None:
        """Log in as the administrator."""
        self.page.goto(f"{self.url}/login/")
        for name in ("username", "password"):
            self.page.locator(f"[name={name}]").fill(USER)
        self.page.locator("input[type=submit]").click()
        self.page.wait_for_url(f"{self.url}/home")

    def new(self, conn_id: str, kind: str) -> None:
        """Open the form for a new connection and choose the type."""
        self.page.goto(f"{self.url}/connection/add")
        self.page.locator("#conn_id").fill(conn_id)
        self.page.locator("#select2-conn_type-container").click()
        self.page.get_by_role("option", name=kind, exact=True).click()

    def edit(self, conn_id: str) -> None:
        """Open the form of a connection that exists."""
        self.page.goto(f"{self.url}/connection/list/")
        # Until the page's scripts have run, it is not the form that it will be.
        with self.page.expect_navigation():
            self._row(conn_id).locator("a[href*='/connection/edit/']").click()

    def show_extras(self) -> None:
        """Do nothing: they are in sight."""

    def labels(self) -> list[str]:
        """Return the labels of the fields in sight."""
        return self._visible(self.page.locator("#model_form label"))

    def field(self, name: str) -> Locator:
        """Return the input of a field."""
        return self.page.locator(f"#{name if name in STANDARD else f'extra__flokit__{name}'}")

    def help(self, name: str) -> str:
        """Return the text below a field."""
        return self.field(name).locator("xpath=..").locator(".help-block").inner_text()

    def allow(self, name: str) -> None:
        """Say yes to a question, in words."""
        self.fill(name, "true")

    def save(self) -> None:
        """Save, and wait until Airflow says that it has."""
        with self.page.expect_navigation():
            self.page.locator("#model_form button[type=submit]").click()
        said = self.page.locator(".alert").first.inner_text()
        assert re.search("(Added|Changed) Row", said), said

    def test(self, conn_id: str) -> str:
        """Press Test: the form holds the key only before it is saved."""
        with self.page.expect_response("**/connections/test"):
            self.page.locator("#test-connection").click()
        # The page shows the answer in place of the warning that it starts out with.
        return self.page.locator(".container .row .alert").filter(has_not_text="Warning: Fields").first.inner_text()


Form = Airflow3Form if AIRFLOW_3 else Airflow2Form
