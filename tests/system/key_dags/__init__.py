"""DAG files whose tasks do all that could bring the API key to light."""
