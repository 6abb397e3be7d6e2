"""Files that are whole or absent: atomic writes, locks, hashes, JSON, tensors and the manifest of a Run."""
