"""Readers, schema, vocabularies, Dataset, Batch, splits, leak check, and the bundled synthetic shop."""
