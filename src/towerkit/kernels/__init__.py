"""Compiled inner loops on plain arrays: no spec, no model, no tensors. Tests hold each equal to its plain twin."""
