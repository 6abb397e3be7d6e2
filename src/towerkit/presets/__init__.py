"""Recipes that choose their own settings on validation: from pairs to a spec, with nothing to tune by hand."""

from towerkit.presets.base import PRESETS, Chosen, check_preset, choose, held_settings, start_of, told

__all__ = ["PRESETS", "Chosen", "check_preset", "choose", "held_settings", "start_of", "told"]
