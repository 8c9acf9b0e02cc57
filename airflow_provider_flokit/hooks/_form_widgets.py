"""
The extra fields of the connection form, for Airflow before 3.2; later ones draw the provider's metadata.

Airflow 2 puts a stored value into its field only if it is true, and the field's text back into the extra, however
it was stored. So every field here is a text, which keeps what the connection means: a box would take the text
``"false"`` for yes, and a number would lose ``0``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
from wtforms import PasswordField, StringField
from wtforms.validators import Optional

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["widgets"]

# Airflow 2's own (airflow.www.views): a field that comes back with it is left as it is stored.
UNCHANGED: Final = "RATHER_LONG_SENSITIVE_FIELD_PLACEHOLDER"


class SecretWidget(BS3PasswordFieldWidget):  # type: ignore[misc, unused-ignore]
    """A masked input that survives an edit: an empty one, as a password comes back, would be deleted."""

    def __call__(self, field: Any, **attributes: Any) -> Any:
        """Draw the input: what is stored never goes to the browser; the text of a form that was refused stays."""
        self.hide_value = False
        if field.data and not field.raw_data:
            attributes["value"] = UNCHANGED
        return super().__call__(field, **attributes)


def widgets(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """
    Return a form field for each extra, as ``get_connection_form_widgets`` does.

    :param fields: The ``conn-fields`` of the provider's metadata.
    """

    def widget(field: Mapping[str, Any]) -> Any:
        about = {"label": field["label"], "description": field["description"], "validators": [Optional()]}
        if field["schema"].get("format") == "password":
            return PasswordField(widget=SecretWidget(), **about)
        return StringField(widget=BS3TextFieldWidget(), **about)

    return {name: widget(field) for name, field in fields.items()}
