"""Saving and loading a Run: a folder of safetensors, JSON and Arrow files that loads without running code."""
