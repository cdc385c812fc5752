"""Metrics, as pure functions over arrays, and how far they can be trusted."""
