"""Specialist classifiers: training, calibration and use."""
