"""Intervals, tests and metrics of texts, and what they are computed with."""
