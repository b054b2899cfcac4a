"""Measurements: each a ratio of two things taken in one run on one machine."""
