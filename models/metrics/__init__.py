"""Metrics, registered in the order of a report."""

from . import diagnosis as diagnosis

from . import calibration as calibration  # isort: skip
