"""Tests of the simulator: real HTTP, a clock moved by hand."""
