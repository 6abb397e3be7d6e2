"""Several retrievals to files and back: each in a folder of its own, with the query side that they share."""

from __future__ import annotations

from pathlib import Path

from towerkit.artifact.models import load_retriever, save_retriever
from towerkit.core.errors import RunError, listed
from towerkit.core.spec import parse
from towerkit.models.joint import JointSpec
from towerkit.models.joint_retriever import JointRetriever
from towerkit.storage.documents import read_document
from towerkit.storage.hashes import write_json
from towerkit.storage.migrations import FORMAT_VERSION


def save_joint(folder: Path, model: JointRetriever) -> None:
    """Write each retrieval as a Run of its own has it; the query side stands in each.

    Args:
        folder: Made if it is not there.
        model: What to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "model.json", {"spec": model.spec.model_dump(mode="json")})
    for name, retriever in model.members.items():
        save_retriever(folder / "members" / name, retriever)


def load_joint(folder: Path, version: int = FORMAT_VERSION) -> JointRetriever:
    """Read a joint model from a folder.

    Args:
        folder: Its files.
        version: The format of its Run.

    Raises:
        RunError: If a file is missing, damaged, or does not fit the others.
    """
    content = read_document(folder / "model.json", version, ("spec",))
    spec = parse(JointSpec, content["spec"], str(folder / "model.json"))
    members = {name: load_retriever(folder / "members" / name, version) for name in spec.candidates}
    strange = [
        name for name, each in members.items() if each.candidate_entity != name or each.spec != spec.two_tower(name)
    ]
    queries = {each.query_entity for each in members.values()}
    if strange or len(queries) > 1:
        raise RunError(
            f"{folder / 'model.json'} does not fit its members {listed(strange or members)}: they retrieve something else, or for "
            "other queries. Train the Run again."
        )
    return JointRetriever(spec, members)
