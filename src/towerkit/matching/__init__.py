"""What stands between two towers: similarity, negatives, and how the gradient reaches each side."""
