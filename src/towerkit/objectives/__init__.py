"""Objectives: a model and a batch to named loss terms; balancers: terms to gradients."""
