"""Tuning: a search space is a spec with ranges in place of values, a trial is an ordinary spec."""
