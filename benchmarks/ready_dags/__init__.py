"""What is timed by ``benchmarks.ready``."""
