"""A small synthetic marketplace with planted truth: nothing to download, and a demo can check itself.

Everything here is made up by a seeded generator: the people, the products, the reviews, the pictures and the sounds.
"""

from towerkit.data.shop.tables import SHOP_TABLES, shop_table, shop_tables

__all__ = ["SHOP_TABLES", "shop_table", "shop_tables"]
