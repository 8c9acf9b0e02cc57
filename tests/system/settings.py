"""The settings of a throw-away Airflow: quick, small, on loopback, and free of the caller's own Airflow."""

from __future__ import annotations

import os
import secrets
import sys
from base64 import urlsafe_b64encode
from importlib.metadata import version
from pathlib import Path

AIRFLOW_VERSION = tuple(int(part) for part in version("apache-airflow").split(".")[:2])
AIRFLOW_3 = AIRFLOW_VERSION >= (3, 0)


def environment(home: Path, dags_folder: Path, port: int = 0, *, parallelism: int = 8) -> dict[str, str]:
    """Return the environment for every component; intervals are short, so that little is waited for."""
    env = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name}
    # Every component would compile all of Airflow anew at each start.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    env["AIRFLOW_HOME"] = str(home)
    # Airflow 2 refuses LocalExecutor on SQLite; with a WAL database and few tasks it works.
    env["_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK"] = "1"
    env["NO_PROXY"] = env["no_proxy"] = "127.0.0.1,localhost,::1"
    settings = {
        "core.dags_folder": dags_folder,
        "core.plugins_folder": home / "plugins",
        "core.load_examples": False,
        "core.executor": "LocalExecutor",
        "core.parallelism": parallelism,
        "core.max_active_tasks_per_dag": max(parallelism, 16),
        "core.fernet_key": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "database.sql_alchemy_conn": f"sqlite:///{home}/airflow.db?timeout=30",
        "logging.base_log_folder": home / "logs" / "tasks",
        "logging.colored_console_log": False,
        "usage_data_collection.enabled": False,
        "scheduler.scheduler_heartbeat_sec": 1,
        "scheduler.scheduler_idle_sleep_time": 0.2,
        "scheduler.job_heartbeat_sec": 1,
        "scheduler.scheduler_health_check_threshold": 15,
        "scheduler.orphaned_tasks_check_interval": 10,
        "scheduler.trigger_timeout_check_interval": 2,
        "triggerer.job_heartbeat_sec": 1,
        "triggerer.triggerer_health_check_threshold": 15,
        **(_airflow_3(home, port) if AIRFLOW_3 else _airflow_2(port)),
    }
    return env | {f"AIRFLOW__{name.replace('.', '__')}".upper(): str(value) for name, value in settings.items()}


def _airflow_3(home: Path, port: int) -> dict[str, object]:
    url, secret = f"http://127.0.0.1:{port}", secrets.token_hex(32)
    return {
        "core.execution_api_server_url": f"{url}/execution/",
        "core.simple_auth_manager_all_admins": True,
        "core.simple_auth_manager_passwords_file": home / "passwords.json",
        "api.base_url": url,
        "api.host": "127.0.0.1",
        "api.port": port,
        "api.secret_key": secret,
        "api_auth.jwt_secret": secret,
        "dag_processor.min_file_process_interval": 5,
        "dag_processor.parsing_processes": 1,
        "dag_processor.refresh_interval": 5,
        "dag_processor.bundle_refresh_check_interval": 2,
        "scheduler.task_instance_heartbeat_timeout": 20,
        "scheduler.task_instance_heartbeat_timeout_detection_interval": 2,
    }


def _airflow_2(port: int) -> dict[str, object]:
    return {
        "webserver.base_url": f"http://127.0.0.1:{port}",
        "webserver.secret_key": secrets.token_hex(32),
        "scheduler.min_file_process_interval": 5,
        "scheduler.parsing_processes": 1,
        "scheduler.dag_dir_list_interval": 5,
        "scheduler.scheduler_zombie_task_threshold": 20,
        "scheduler.zombie_detection_interval": 2,
        # Else every process starts with a warning about it.
        "metrics.timer_unit_consistency": True,
    }
