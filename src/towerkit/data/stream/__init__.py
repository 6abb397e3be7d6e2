"""Logs of pairs that need not fit into memory: read once from Parquet, encoded on disk, visited by windows."""
