"""Benchmarks by the names that scripts of the Python tool know."""
