"""What every floor may use: errors, the base of all specs, optional packages, counter-based randomness."""
