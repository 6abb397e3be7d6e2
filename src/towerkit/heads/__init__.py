"""Heads: a state to the logits of one task."""
