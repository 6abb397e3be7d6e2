"""What each kind of model comes to: trained by its recipe, measured once, beside its baselines."""
