"""Training: the state, the step, the loop, and how each model kind is prepared for it."""
