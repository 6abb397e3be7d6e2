"""Losses: tensors to tensors, one value per row."""
