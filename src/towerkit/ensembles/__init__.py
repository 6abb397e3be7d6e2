"""Late fusion: members of any model family, combined by average or by stacking on out-of-fold predictions."""
