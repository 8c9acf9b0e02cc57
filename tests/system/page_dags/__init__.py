"""DAGs for a look at the FloKit page: gates that wait, one that fails at once, and a watched asset."""
