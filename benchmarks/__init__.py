"""Benchmarks and studies of the project itself: part of the repository, not of the wheel."""
