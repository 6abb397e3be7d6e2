"""Ranking metrics, classification metrics and their bootstrap intervals: pure functions of NumPy arrays."""
