"""Airflow's own connection form, in a real browser against a real web server. ``make ui-test`` runs these tests."""
