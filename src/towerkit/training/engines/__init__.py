"""Engines of compiled kernels, beside the torch engine that runs every spec."""
