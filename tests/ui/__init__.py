"""Airflow's own connection form and the FloKit page, in a real browser. ``make ui-test`` runs these tests."""
