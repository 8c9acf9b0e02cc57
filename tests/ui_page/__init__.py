"""The FloKit page, asked over HTTP in Airflow's own API server app; pictures and clicks are in tests/ui."""
