"""
Ten thousand waits in one event loop, measured beside the peers: ``make bench``.

``__main__`` makes the environment and starts everything, ``subjects`` says what is measured, ``upstream`` plays the
APIs in a process of their own, ``run`` is one measurement in a fresh process, ``triggerer`` is the event loop in it,
``imports`` times what a DAG file pays, ``table`` and ``picture`` show the result.
"""
