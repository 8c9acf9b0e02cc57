"""The connection form of Airflow 3: a dialog over the list of connections, Test buttons in the list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.ui.form import ConnectionForm

if TYPE_CHECKING:
    from playwright.sync_api import Locator

__all__ = ["Airflow3Form"]

STANDARD: Final = ("connection_id", "description", "host", "schema", "login", "password", "port")


class Airflow3Form(ConnectionForm):
    """The form of Airflow 3, in which everybody is an administrator here, without a login."""

    def log_in(self) -> None:
        """Open the home page: whoever comes in elsewhere is let in, and led there, by some versions."""
        self.page.goto(self.url)
        self.page.get_by_role("button", name="Admin").wait_for()

    def new(self, conn_id: str, kind: str) -> None:
        """Open the form for a new connection and choose the type."""
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
        """Open the part of the dialog that has the extra fields."""
        button = self._dialog().get_by_role("button", name="Extra Fields", exact=True)
        # The dialog draws itself anew when it has read the connection, and closes what was open.
        for _ in range(100):
            if button.get_attribute("aria-expanded") != "true":
                button.click()
            self.page.wait_for_timeout(250)
            if self.field("timeout").is_visible():
                break

    def labels(self) -> list[str]:
        """Return the labels of the fields in sight."""
        labels = self._dialog().locator("label").all()
        texts = [label.inner_text().replace("*", "").strip() for label in labels if label.is_visible()]
        return [text for text in texts if text]

    def field(self, name: str) -> Locator:
        """Return the input of a field."""
        return self._dialog().locator(f"[name={name if name in STANDARD else f'element_{name}'}]")

    def help(self, name: str) -> str:
        """Return the text below a field."""
        described = str(self.field(name).get_attribute("aria-describedby")).split()
        return " ".join(self.page.locator(f"[id='{identity}']").inner_text() for identity in described)

    def allow(self, name: str) -> None:
        """Say yes to a question: a switch from Airflow 3.2 on, a text before."""
        if self.field(name).get_attribute("type") == "checkbox":
            # The box itself is out of sight, behind the switch.
            self.field(name).locator("xpath=..").click()
        else:
            self.fill(name, "true")

    def save(self) -> None:
        """Save, and wait until the dialog is gone."""
        self._dialog().get_by_role("button", name="Save").click()
        self._dialog().wait_for(state="hidden")

    def test(self, conn_id: str) -> str:
        """Save, then press Test in the connection's row."""
        self.save()
        self.page.goto(f"{self.url}/connections")
        self._row(conn_id).get_by_role("button", name="Test Connection").click()
        toast = self.page.locator("[data-scope=toast][data-part=root]")
        toast.wait_for()
        return toast.inner_text()

    def _dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    def _row(self, conn_id: str) -> Locator:
        return self.page.get_by_role("row").filter(has=self.page.get_by_text(conn_id, exact=True))
