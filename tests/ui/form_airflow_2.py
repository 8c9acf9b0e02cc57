"""The connection form of Airflow 2: pages of Flask-AppBuilder behind a login."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from tests.ui.form import ConnectionForm

if TYPE_CHECKING:
    from playwright.sync_api import Locator

__all__ = ["PASSWORD", "USER", "Airflow2Form"]

USER: Final = "admin"
PASSWORD: Final = "admin"
STANDARD: Final = ("conn_id", "conn_type", "description", "host", "schema", "login", "password", "port", "extra")


class Airflow2Form(ConnectionForm):
    """The form of Airflow 2, with all fields on one page and the Test button beside Save."""

    def log_in(self) -> None:
        """Log in as the administrator."""
        self.page.goto(f"{self.url}/login/")
        self.page.locator("[name=username]").fill(USER)
        self.page.locator("[name=password]").fill(PASSWORD)
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
        row = self.page.locator("tr").filter(has=self.page.get_by_text(conn_id, exact=True))
        # Until the page's scripts have run, it is not the form that it will be.
        with self.page.expect_navigation():
            row.locator("a[href*='/connection/edit/']").click()

    def show_extras(self) -> None:
        """Do nothing: they are in sight."""

    def labels(self) -> list[str]:
        """Return the labels of the fields in sight."""
        labels = self.page.locator("#model_form label").all()
        return [label.inner_text().strip(" *") for label in labels if label.is_visible()]

    def field(self, name: str) -> Locator:
        """Return the input of a field."""
        return self.page.locator(f"#{name if name in STANDARD else f'extra__flokit__{name}'}")

    def help(self, name: str) -> str:
        """Return the text below a field."""
        return self.field(name).locator("xpath=..").locator(".help-block").inner_text()

    def save(self) -> None:
        """Save, and wait until Airflow says that it has."""
        with self.page.expect_navigation():
            self.page.locator("#model_form button[type=submit]").click()
        said = self.page.locator(".alert").first.inner_text()
        assert re.search("(Added|Changed) Row", said), said

    def test(self, conn_id: str) -> str:
        """Press Test: the form holds the key only before it is saved."""
        del conn_id  # the form is the connection's own
        with self.page.expect_response("**/connections/test"):
            self.page.locator("#test-connection").click()
        # The page shows the answer in place of the warning that it starts out with.
        alert = self.page.locator(".container .row .alert").filter(has_not_text="Warning: Fields").first
        return alert.inner_text().strip("\N{MULTIPLICATION SIGN} \n")
