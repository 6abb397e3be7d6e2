"""Which tower earns its cost: models measured without some of their towers."""
