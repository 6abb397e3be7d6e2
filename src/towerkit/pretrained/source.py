"""Where a pretrained encoder comes from, as a spec says it: a folder, or its name on the hub."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import model_validator

from towerkit.core.errors import SpecError
from towerkit.core.optional import optional_import
from towerkit.core.spec import Spec
from towerkit.data.locations import expand
from towerkit.pretrained.folder import FILES, Pretrained

_READ_BESIDE = ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json")


class PretrainedSource(Spec):
    """A folder of files, or the name of an encoder on the hub; exactly one of the two."""

    path: str | None = None
    """A folder with ``config.json`` and ``model.safetensors``."""
    name: str | None = None
    """A repository on the hub, such as ``sentence-transformers/all-MiniLM-L6-v2``."""
    revision: str | None = None
    """A branch, tag or commit of that repository."""

    @model_validator(mode="after")
    def _one_place(self) -> PretrainedSource:
        if (self.path is None) == (self.name is None):
            raise ValueError(
                f"a pretrained encoder comes from a folder (path) or from the hub (name); received path: {self.path!r}, "
                f"name: {self.name!r}. Give one of the two."
            )
        if self.revision is not None and self.name is None:
            raise ValueError(
                f"'revision' belongs to a name on the hub; received {self.revision!r} beside a path. Remove it."
            )
        return self

    def source(self) -> PretrainedSource:
        """This part alone: two specs that name the same encoder have equal sources."""
        return PretrainedSource(path=self.path, name=self.name, revision=self.revision)

    def find(self) -> Pretrained:
        """The encoder's files, fetched from the hub where they are named by it and not on this machine yet.

        Raises:
            SpecError: If there is no such encoder, or its weights cannot be read without running code.
            MissingExtraError: If the hub is asked and its client is not installed.
        """
        if self.path is not None:
            return Pretrained.of(Path(expand(self.path)).expanduser())
        return Pretrained.of(_snapshot(str(self.name), self.revision))


def fingerprints(part: Any) -> dict[str, str]:
    """Which pretrained encoders a spec means, by their content: another one may lie under the same path tomorrow.

    Args:
        part: A spec as plain data, or a part of it.

    Returns:
        What the spec calls it -> its fingerprint.

    Raises:
        SpecError: If there is no such encoder.
    """
    if isinstance(part, Mapping):
        found = dict(chain.from_iterable(fingerprints(value).items() for value in part.values()))
        if part.get("kind") == "pretrained":
            source = PretrainedSource(**{key: part.get(key) for key in ("path", "name", "revision")})
            found[f"{source.path or source.name}@{source.revision}"] = source.find().fingerprint
        return found
    return dict(chain.from_iterable(fingerprints(each).items() for each in part)) if isinstance(part, list) else {}


def _snapshot(name: str, revision: str | None) -> Path:
    """The folder of a repository of the hub on this machine."""
    hub = optional_import("huggingface_hub", extra="text")
    patterns = [*(each.replace("N", "*") for each in FILES), *_READ_BESIDE]
    try:
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SpecError(
            f"The encoder '{name}' could not be had from the hub ({told}). Check the name and the network, or give the folder "
            "of a copy under the key 'path'."
        ) from None
