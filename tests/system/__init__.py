"""What needs a real Airflow: schedulers, triggerers and workers as separate processes."""
