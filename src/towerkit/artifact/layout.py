"""Which files a Run of each kind may hold: a name that is not listed here is refused, whatever the manifest says of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import chain

from towerkit.core.errors import RunError, listed
from towerkit.pretrained.folder import FILES, SHOWN_DIGITS

_ABOUT = (
    "spec.json",
    "data.json",
    "metrics.json",
    "details-N.arrow",
    "history.jsonl",
    "golden.json",
    "card.md",
)
_PRETRAINED = tuple(f"pretrained/FINGERPRINT/{name}" for name in FILES)
_DEEPEST = 2
"""Late fusions below the outermost one."""
_PARTS = ("encoder.json", "vocabulary-N.arrow", *_PRETRAINED)
_TOWERS = ("model.json", *_PARTS, "weights.safetensors")
_PREDICTOR = (*_TOWERS, "entity-N.arrow")
_TREES = (*_PARTS, "trees.json")
_ESTIMATOR = (*_PARTS, "estimator.safetensors")
_FUSION = ("model.json", "combiner.safetensors", "held-out.safetensors")
_RANKING = ("query.arrow", "candidate.arrow", "seen.safetensors")
_RETRIEVER = (*_TOWERS, *_RANKING, "history.safetensors")
_RANKER = (*_PREDICTOR, *_RANKING)
_WORDS = ("model.json", "words.arrow", "counts.safetensors")


def _of_members(*files: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"members/NAME/{name}" for name in dict.fromkeys(chain(*files)))


MODEL_FILES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "two_tower": (_RETRIEVER,),
    "tower_model": (_PREDICTOR,),
    "ranker": (_RANKER,),
    "joint": (("model.json", *_PRETRAINED, *_of_members(_RETRIEVER)),),
    "late_fusion": (
        (*_FUSION, *_PRETRAINED, *_of_members(_PREDICTOR, _TREES, _ESTIMATOR, _FUSION)),
        ("model.json", *_RANKING, *_PRETRAINED, *_of_members(_RETRIEVER, _RANKER, _WORDS)),
    ),
}
"""Kind -> the files below ``model/``: one list for each form that the kind has (a late fusion predicts, or it ranks). ``N`` stands
for a number, ``NAME`` for the name of a member, or of members within each other, as deep as late fusions may stand, and
``FINGERPRINT`` for the first digits of a pretrained encoder's."""


def check_layout(kind: str, names: Iterable[str], source: str) -> None:
    """Refuse a Run that lacks one of the files that every Run has, or has one that no Run of this kind has.

    Args:
        kind: Of the Run; one that this version does not know is refused when the model is loaded.
        names: Its files, as relative POSIX paths, without the manifest.
        source: What to call the Run in the message.

    Raises:
        RunError: Names the files.

    Example:
        >>> about = ["spec.json", "data.json", "metrics.json", "history.jsonl", "golden.json", "card.md"]
        >>> check_layout("tower_model", [*about, "model/entity-0.arrow"], "runs/mine")
    """
    if kind not in MODEL_FILES:
        return
    found = set(names)
    lost = [name for name in _ABOUT if name not in found and "N" not in name]
    if lost:
        raise RunError(
            f"{source}: {listed(lost)} missing, which every Run has; towerkit did not write it so. Train again."
        )
    strange = min((_strange(found, files) for files in MODEL_FILES[kind]), key=len)
    if strange:
        raise RunError(
            f"{source}: this version knows no file {listed(strange)} in a {kind}; towerkit did not write it, or a newer "
            "towerkit did: upgrade, or train the Run again."
        )


def _strange(found: Iterable[str], files: Iterable[str]) -> list[str]:
    known = [_pattern(name) for name in [*_ABOUT, *(f"model/{name}" for name in files)]]
    return [name for name in found if not any(pattern.fullmatch(name) for pattern in known)]


def _pattern(name: str) -> re.Pattern[str]:
    text = (
        re.escape(name).replace("\\-N\\-of\\-N\\.", r"-\d{5}-of-\d{5}\.").replace("\\-N\\.", r"-(?:0|[1-9]\d{0,4})\.")
    )
    text = text.replace("FINGERPRINT", f"[0-9a-f]{{{SHOWN_DIGITS}}}")
    member = "[A-Za-z][A-Za-z0-9_-]{0,63}"
    return re.compile(text.replace("NAME", f"{member}(?:/members/{member}){{0,{_DEEPEST}}}"))
