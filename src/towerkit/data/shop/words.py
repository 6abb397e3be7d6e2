"""The vocabulary of the shop: what things are called, as plain data.

Each category has nouns, adjectives by style, and closing details; a title is one of each. All brands and cities are
invented.
"""

from __future__ import annotations

from typing import NamedTuple


class Department(NamedTuple):
    """The words of one product category."""

    nouns: tuple[str, ...]
    """Eight kinds of thing; people's taste depends on the kind a little."""
    adjectives: tuple[tuple[str, ...], ...]
    """Three words for each of :data:`STYLES`; taste depends on the style."""
    details: tuple[str, ...]
    """Seven closing details that taste ignores."""
    purpose: tuple[str, ...]
    """What the description says the thing is for."""


STYLES = ("natural", "modern", "classic", "playful")
NUM_ADJECTIVES, NUM_NOUNS, NUM_DETAILS = 3, 8, 7

DEPARTMENTS: dict[str, Department] = {
    "lighting": Department(
        (
            "desk lamp",
            "floor lamp",
            "table lamp",
            "pendant light",
            "wall lamp",
            "reading lamp",
            "night light",
            "lantern",
        ),
        (
            ("Oak", "Bamboo", "Rattan"),
            ("Steel", "Smoked glass", "Matte aluminum"),
            ("Brass", "Porcelain", "Walnut"),
            ("Paper", "Checkered", "Bubble"),
        ),
        (
            "with brass arm",
            "with linen shade",
            "with dimmer",
            "with woven cord",
            "with round base",
            "with warm bulb",
            "with pull chain",
        ),
        ("for long evenings", "for the reading corner", "for a calm bedroom"),
    ),
    "kitchen": Department(
        ("mixing bowl", "teapot", "butter dish", "salad bowl", "mug", "carafe", "spice jar", "serving tray"),
        (
            ("Stoneware", "Clay", "Terracotta"),
            ("Borosilicate", "Brushed steel", "Enamel"),
            ("Porcelain", "Copper", "Earthenware"),
            ("Speckled", "Striped", "Hand-painted"),
        ),
        (
            "with lid",
            "with wooden handle",
            "for two",
            "for six",
            "with pouring lip",
            "with leather loop",
            "with gold rim",
        ),
        ("for everyday cooking", "for slow breakfasts", "for a full table of guests"),
    ),
    "garden": Department(
        (
            "planter",
            "watering can",
            "bird feeder",
            "plant stand",
            "flower box",
            "garden stool",
            "wind chime",
            "bird bath",
        ),
        (
            ("Willow", "Cedar", "Driftwood"),
            ("Zinc", "Concrete", "Powder-coated"),
            ("Cast iron", "Sandstone", "Verdigris"),
            ("Dotted", "Rainbow", "Sunny"),
        ),
        (
            "for balconies",
            "with hook",
            "for small spaces",
            "with rope handle",
            "with drip tray",
            "with carved leaf",
            "with hanging chain",
        ),
        ("for the balcony", "for a sunny windowsill", "for the first warm days of spring"),
    ),
    "stationery": Department(
        ("notebook", "pencil case", "desk pad", "planner", "letter set", "pen tray", "sketchbook", "bookmark set"),
        (
            ("Kraft", "Cork", "Seed-paper"),
            ("Grid", "Monochrome", "Minimal"),
            ("Leather", "Marbled", "Gilded"),
            ("Confetti", "Doodle", "Comic"),
        ),
        (
            "with elastic band",
            "in pocket size",
            "with brass clip",
            "for left-handers",
            "with ribbon",
            "in gift box",
            "with name plate",
        ),
        ("for tidy plans", "for notes that last", "for letters worth keeping"),
    ),
    "textiles": Department(
        ("cushion", "throw", "tea towel", "table runner", "curtain", "blanket", "apron", "napkin set"),
        (
            ("Linen", "Wool", "Hemp"),
            ("Jersey", "Quilted", "Color-block"),
            ("Velvet", "Damask", "Tweed"),
            ("Pom-pom", "Patchwork", "Polka-dot"),
        ),
        (
            "with tassels",
            "with fringe",
            "in two tones",
            "with hidden zip",
            "with piped edge",
            "with button corner",
            "with embroidered hem",
        ),
        ("for cold evenings", "for a soft home", "for the big family table"),
    ),
    "toys": Department(
        (
            "puzzle",
            "stacking tower",
            "pull-along duck",
            "block set",
            "kite",
            "plush bear",
            "marble run",
            "memory game",
        ),
        (
            ("Beech", "Maple", "Felted"),
            ("Magnetic", "Modular", "Geometric"),
            ("Tin", "Vintage", "Heirloom"),
            ("Glow-in-the-dark", "Squeaky", "Wobbly"),
        ),
        (
            "in cotton bag",
            "for small hands",
            "for ages 3 and up",
            "with storage box",
            "in keepsake tin",
            "with name tag",
            "for rainy days",
        ),
        ("for rainy afternoons", "for curious children", "for the whole family"),
    ),
    "travel": Department(
        (
            "backpack",
            "weekend bag",
            "wash bag",
            "luggage tag",
            "passport holder",
            "water bottle",
            "packing cube set",
            "umbrella",
        ),
        (
            ("Canvas", "Waxed cotton", "Jute"),
            ("Ripstop", "Foldable", "Reflective"),
            ("Full-grain leather", "Herringbone", "Tartan"),
            ("Palm-print", "Neon", "Zigzag"),
        ),
        (
            "with leather strap",
            "with zip pocket",
            "in cabin size",
            "with brass buckle",
            "with key ring",
            "in dust bag",
            "with hidden pocket",
        ),
        ("for long weekends", "for the daily train", "for travelling light"),
    ),
    "bath": Department(
        (
            "soap dish",
            "bath brush",
            "soap set",
            "candle",
            "bath tray",
            "toothbrush cup",
            "hand towel",
            "laundry basket",
        ),
        (
            ("Sisal", "Olive wood", "Seagrass"),
            ("Frosted", "Terrazzo", "Waffle"),
            ("Marble", "Ceramic", "Lavender"),
            ("Seashell", "Pebble", "Mermaid"),
        ),
        (
            "with cotton cord",
            "in gift box",
            "with drain holes",
            "with wooden feet",
            "with rounded edge",
            "with travel pouch",
            "in set of two",
        ),
        ("for slow Sundays", "for a tidy sink", "for the guest bathroom"),
    ),
}

CATEGORIES = tuple(DEPARTMENTS)

BRANDS = (
    *("Larkmoor", "Tallowfern", "Brindlebee", "Okavale", "Ferncross", "Miralane", "Pebblewick", "Hollin & Daughters"),
    *("Juniper Row", "Saltbarrow", "Quillhaven", "Dovetail Lane", "Nettlebrook", "Amberley Works", "Tinkerdale"),
    *("Mossgate", "Copperjay", "Winterbourne Mill", "Foxglove Yard", "Harbor & Hay", "Little Otter", "Marrowstone"),
    *("Bellwether Co", "Thistle Press", "Sundrift"),
)

COLORS: dict[str, tuple[int, int, int]] = {
    "sage": (143, 168, 120),
    "ocean": (32, 96, 168),
    "coral": (240, 112, 88),
    "mustard": (216, 168, 32),
    "charcoal": (56, 56, 64),
    "cream": (240, 224, 184),
    "plum": (120, 40, 104),
    "sky": (128, 192, 240),
    "brick": (160, 56, 40),
    "forest": (24, 88, 48),
}

STYLE_PHRASES = (
    ("Warm and earthy", "Simple, natural and honest", "Made from materials that age well"),
    ("Clean lines and no fuss", "Sleek and precise", "Light, plain and very contemporary"),
    ("Timeless, with an old-world finish", "Elegant and traditional", "A classic that never goes out of fashion"),
    ("Cheerful and a little silly", "Bright, funny and full of surprises", "Made to make you smile"),
)

CARE = (
    "Wipe clean with a damp cloth.",
    "Ships in recycled paper.",
    "Made in small batches.",
    "Comes with a two-year guarantee.",
    "Each piece is slightly different.",
)

CITIES = (
    *("Aldermoor", "Brackenford", "Caldmere", "Dunwater", "Eastholm", "Farrowby"),
    *("Greycliff", "Hazelport", "Ivybridge End", "Kestrel Bay", "Lindenau Falls", "Marsh Quay"),
)

PLANS = ("free", "plus", "family")

FLAVORS: dict[str, tuple[int, int, int]] = {
    "caramel": (200, 136, 48),
    "sea salt": (176, 208, 224),
    "citrus": (240, 216, 40),
    "chili": (208, 40, 32),
    "cocoa": (88, 48, 32),
    "berry": (152, 40, 120),
}

SNACK_ADJECTIVES = ("Crunchy", "Mini", "Slow-roasted", "Hand-cut", "Airy", "Golden")
SNACK_NOUNS = ("popcorn", "almonds", "cookies", "crackers", "granola bites", "pretzels", "wafers", "oat bars")
SNACK_PHRASES = (
    "Sweet and buttery, like the fair on the last day of summer.",
    "Crisp and savory, with flakes from the coast.",
    "Sharp, fresh and sunny.",
    "Slow heat that builds with every bite.",
    "Dark, rich and not too sweet.",
    "Fruity and tangy, with real pieces.",
)
