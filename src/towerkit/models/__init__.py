"""Model kinds: wiring only. A two-tower compares two sides; a tower model merges towers for heads."""
