"""Cross-validation: the same spec trained and measured on several divisions of the same rows."""
