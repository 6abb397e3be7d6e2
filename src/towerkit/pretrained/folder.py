"""A pretrained encoder as plain files: which of them count, what they are called by their content, and what is refused."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from towerkit.core.errors import RunError, SpecError, listed
from towerkit.storage.hashes import content_hash, read_json, sha256_file

FILES = (
    "config.json",
    "model.safetensors",
    "model-N-of-N.safetensors",
    "model.safetensors.index.json",
    "model.onnx",
    "tokenizer.json",
    "preprocessor_config.json",
)
"""The files of an encoder that are read; ``N`` stands for a number of five digits. A Run may hold no other."""
_FILE = re.compile("|".join(re.escape(name).replace("N", r"\d{5}") for name in FILES))
_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?|model\.onnx")
_PICKLED = re.compile(r".*\.(bin|pt|pth|ckpt|pkl|pickle|joblib)")
SHOWN_DIGITS = 16
"""Of a fingerprint, in the name of a folder: enough that no two encoders share it."""


@dataclass(frozen=True)
class Pretrained:
    """An encoder's files. Two folders with the same files are the same encoder, wherever they are."""

    folder: Path
    files: Mapping[str, str]
    """Name -> SHA-256."""

    @classmethod
    def of(cls, folder: Path) -> Pretrained:
        """The encoder in a folder, whatever else lies there.

        Args:
            folder: Of plain files.

        Raises:
            SpecError: If it is no encoder whose weights can be read without running code.
        """
        names = _names(folder)
        if "model.onnx" not in names and "config.json" not in names:
            raise SpecError(
                f"{folder} is no encoder: it has no config.json. Give the folder that save_pretrained of transformers wrote, "
                "or that the hub shows."
            )
        if not any(_WEIGHTS.fullmatch(name) for name in names):
            _refuse_weights(folder, names)
        return cls(folder, {name: sha256_file(folder / name) for name in names if _FILE.fullmatch(name)})

    @classmethod
    def in_run(cls, folder: Path, fingerprint: str) -> Pretrained:
        """The encoder that a Run carries.

        Args:
            folder: Where it must be.
            fingerprint: What it must be.

        Raises:
            RunError: If its files are others.
        """
        if not folder.is_dir():
            raise RunError(f"{folder} is not there, and the Run's features read by it; train the Run again.")
        found = cls(folder, {path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.is_file()})
        if found.fingerprint != fingerprint:
            raise RunError(
                f"{folder}: the encoder's fingerprint is {found.fingerprint[:SHOWN_DIGITS]}…, and the features were made by "
                f"{str(fingerprint)[:SHOWN_DIGITS]}…; its files do not belong to this Run. Train the Run again."
            )
        return found

    @cached_property
    def fingerprint(self) -> str:
        """A hash of its files, 64 hexadecimal digits; the place of the folder is not in it."""
        return content_hash(dict(self.files))

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def folder_name(self) -> str:
        """What its folder in a Run is called."""
        return self.fingerprint[:SHOWN_DIGITS]

    @property
    def has_weights(self) -> bool:
        """Whether weights are among the files; those of an encoder that was trained on are in the Run's own."""
        return any(_WEIGHTS.fullmatch(name) for name in self.files)

    def without_weights(self, keep: Iterable[str] = FILES) -> Pretrained:
        """What is left once the weights are kept elsewhere.

        Args:
            keep: Names of files that are wanted still.
        """
        kept = {name for name in self.files if not _WEIGHTS.fullmatch(name)} & set(keep)
        return Pretrained(self.folder, {name: self.files[name] for name in sorted(kept)})

    def path(self, name: str) -> Path:
        """A file of it.

        Raises:
            SpecError: If it has no such file.
        """
        if name not in self.files:
            raise SpecError(
                f"The encoder in {self.folder} has no {name}; it has {listed(self.files)}.{_HINTS.get(name, '')}"
            )
        return self.folder / name

    def json(self, name: str) -> dict[str, Any]:
        """The content of one of its JSON files.

        Raises:
            SpecError: If there is no such file, or it holds no object.
        """
        content = read_json(self.path(name))
        if not isinstance(content, dict):
            raise SpecError(f"{self.folder / name} must hold a JSON object; received a {type(content).__name__}.")
        return content

    def copy_to(self, folder: Path) -> None:
        """Write its files into a folder of a Run.

        Args:
            folder: Made if it is not there.

        Raises:
            RunError: If a file is no longer what it was.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name, digest in self.files.items():
            try:
                shutil.copyfile(self.folder / name, folder / name)
            except OSError as error:
                raise RunError(
                    f"Cannot copy the encoder's {self.folder / name} into the Run ({error.strerror}); leave the encoder where it "
                    "is until the Run is written."
                ) from None
            if sha256_file(folder / name) != digest:
                raise RunError(
                    f"{self.folder / name} was changed while the Run was trained; the vectors were made by what it was. "
                    "Train again."
                )


_HINTS = {
    "tokenizer.json": ' Write one with: python -c "from transformers import AutoTokenizer as T; '
    "T.from_pretrained('FOLDER').save_pretrained('FOLDER')\"",
}


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise SpecError(
            f"The encoder's folder {folder} cannot be read ({error.strerror}); give the path of a folder, or the name of an "
            "encoder on the hub under the key 'name'."
        ) from None


def _refuse_weights(folder: Path, names: list[str]) -> None:
    pickled = [name for name in names if _PICKLED.fullmatch(name)]
    if pickled:
        raise SpecError(
            f"{folder} has its weights only in {listed(pickled)}, a format that runs code when it is read, so towerkit does not "
            'read it. If you trust where it is from, convert it once: python -c "from transformers import AutoModel, '
            f"AutoTokenizer; [kind.from_pretrained('{folder}').save_pretrained('NEW') for kind in (AutoModel, AutoTokenizer)]\""
            " and give the folder NEW, which then has a model.safetensors."
        )
    raise SpecError(
        f"{folder} has no model.safetensors; it has {listed(names)}. Give the folder of an encoder with its weights."
    )
