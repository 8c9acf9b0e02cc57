"""The tests of airflow-provider-flokit; they mirror the package and speak HTTP to its simulator."""
