"""Plain PyTorch loops, written from the algorithms' descriptions: what the library is held against."""
