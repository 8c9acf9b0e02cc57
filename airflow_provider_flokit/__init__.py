"""Apache Airflow provider for FloKit: start syncs, and let DAGs wait until the data has synced."""

from __future__ import annotations

from typing import Any

__all__ = ["__version__", "get_provider_info"]

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """Return the metadata for Airflow's provider manager; the ``apache_airflow_provider`` entry point."""
    name = "FloKit"
    assets = "airflow_provider_flokit.assets.flokit"
    # Airflow 3 reads asset-uris, Airflow 2 dataset-uris.
    uris = {
        "schemes": ["flokit"],
        "handler": f"{assets}.sanitize_uri",
        "to_openlineage_converter": f"{assets}.convert_asset_to_openlineage",
        "factory": f"{assets}.flokit_asset",
    }
    return {
        "package-name": "airflow-provider-flokit",
        "name": name,
        "description": "Trigger FloKit syncs and gate DAGs on integrations that have really synced.",
        "versions": [__version__],
        "integrations": [
            {"integration-name": name, "external-doc-url": "https://flokit.ai", "tags": ["service"]},
        ],
        "hooks": [{"integration-name": name, "python-modules": ["airflow_provider_flokit.hooks.flokit"]}],
        "operators": [{"integration-name": name, "python-modules": ["airflow_provider_flokit.operators.flokit"]}],
        "sensors": [{"integration-name": name, "python-modules": ["airflow_provider_flokit.sensors.flokit"]}],
        "triggers": [{"integration-name": name, "python-modules": ["airflow_provider_flokit.triggers.flokit"]}],
        # The page in Airflow's UI, for [core] lazy_discover_providers = False; else the entry point airflow.plugins.
        "plugins": [{"name": name, "plugin-class": "airflow_provider_flokit.ui.plugin.FlokitPlugin"}],
        "asset-uris": [uris],
        "dataset-uris": [dict(uris)],
        "connection-types": [
            {
                "connection-type": "flokit",
                "hook-class-name": "airflow_provider_flokit.hooks.flokit.FlokitHook",
                "hook-name": name,
                # Airflow 3.2 and later read the two fields below; the hook gives the same to older versions.
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "schema", "extra"],
                    "relabeling": {"password": "API Key", "host": "API URL"},
                    "placeholders": {
                        "host": "https://api.flokit.ai",
                        "port": "443",
                        "password": "read-write to trigger syncs, read-only is enough to wait",
                    },
                },
                "conn-fields": {
                    "timeout": {
                        "label": "Timeout",
                        "description": "Seconds per request. Default: 30.",
                        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 3600},
                    },
                    "retry_limit": {
                        "label": "Retry limit",
                        "description": "Attempts per request after the first. Default: 4.",
                        "schema": {"type": ["integer", "null"], "minimum": 0, "maximum": 100},
                    },
                    "verify": {
                        "label": "Verify TLS",
                        "description": "true, false, or the path of a CA bundle. Default: true.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "proxies": {
                        "label": "Proxies",
                        "description": 'JSON, as requests takes them, e.g. {"https": "http://proxy:3128"}.',
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "allow_insecure_http": {
                        "label": "Allow insecure HTTP",
                        "description": (
                            "Send the key over plain http to another machine: true or false. Default: false."
                        ),
                        "schema": {"type": ["boolean", "null"]},
                    },
                },
            }
        ],
    }
