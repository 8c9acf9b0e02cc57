"""The connection form for Airflow before 3.2, made from the provider's metadata, which later versions read."""

from __future__ import annotations

from typing import Any

from airflow_provider_flokit import get_provider_info


def widgets() -> dict[str, Any]:
    """Return the form's extra fields, all as texts: Airflow 2 shows a stored ``false`` or ``0`` in no other field."""
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from wtforms import PasswordField, StringField

    class StoredSecret(BS3PasswordFieldWidget):  # type: ignore[misc, unused-ignore]
        """Does not send the stored value to the browser; if this text comes back, Airflow 2 keeps the stored value."""

        def __call__(self, field: Any, **attributes: Any) -> Any:
            if field.data and not field.raw_data:
                attributes["value"] = "RATHER_LONG_SENSITIVE_FIELD_PLACEHOLDER"
            return super().__call__(field, **attributes)

    def draw(about: dict[str, Any]) -> Any:
        words = {"label": about["label"], "description": about["description"]}
        if about["schema"].get("format") == "password":
            return PasswordField(**words, widget=StoredSecret(hide_value=False))
        return StringField(**words, widget=BS3TextFieldWidget())

    fields = get_provider_info()["connection-types"][0]["conn-fields"]
    return {name: draw(about) for name, about in fields.items()}
