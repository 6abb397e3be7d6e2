"""Ranking all candidates for queries: the exact ranker, and later the approximate indexes."""
