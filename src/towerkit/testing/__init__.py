"""Contract kits: what every kind of a part must keep, as code that a user's own parts can be put through."""
