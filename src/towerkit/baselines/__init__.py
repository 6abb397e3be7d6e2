"""The simple models that every result is compared with: popularity, item neighbors, majority, logistic regression."""
