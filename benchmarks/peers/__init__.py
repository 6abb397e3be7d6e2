"""Other libraries as sides of a benchmark, each in an environment of its own with pinned versions."""
