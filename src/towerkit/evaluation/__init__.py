"""One evaluator: it sees a ranker or predictions, truth and a protocol, never a model."""
