"""Pretrained encoders: folders of plain files, found by path or by their name on the hub, carried in the Run that uses them."""

from towerkit.pretrained.cache import ContentCache, cache_folder
from towerkit.pretrained.folder import Pretrained
from towerkit.pretrained.modules import load_module, new_module
from towerkit.pretrained.source import PretrainedSource
from towerkit.pretrained.vectors import content_key, vectors_by_content

__all__ = [
    "ContentCache",
    "Pretrained",
    "PretrainedSource",
    "cache_folder",
    "content_key",
    "load_module",
    "new_module",
    "vectors_by_content",
]
