"""The example with features of MovieLens-1M, on the files as the publisher gives them (skipped without them).

Invariants:
- ``::``, Latin-1 and files without a header are read; the features are those that the spec names;
- the genres of a film are what its line says, the gender and age of a user too;
- it trains for an epoch on a part of the ratings, and a film without ratings is placed by its features.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from towerkit.data.batch import Bag, dense
from towerkit.data.dataset import Dataset, read_dataset
from towerkit.data.splits import Parts
from towerkit.experiment import train_and_evaluate
from towerkit.features.encoder import Encoder
from towerkit.features.multi_hot import MultiHotFeature
from towerkit.models.answer import Retriever
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.spec import ExperimentSpec, load_spec
from towerkit.training.loop import Silent

EXAMPLE_FILE = Path(__file__).resolve().parents[2] / "examples" / "ml1m_features.yaml"
NUM_RATINGS = 20_000


@pytest.fixture(scope="module")
def movielens(data_root: Path) -> tuple[ExperimentSpec, Dataset]:
    """The spec, and its data cut to the first users' ratings."""
    if not (data_root / "ml-1m" / "raw" / "users.dat").is_file():
        pytest.skip("needs ml-1m with its raw files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOWERKIT_DATA", str(data_root))
        spec = load_spec(EXAMPLE_FILE, ["training.epochs=1", "training.refit=false"])
        dataset = read_dataset(spec.data)
    few = replace(dataset.examples, data=dataset.examples.data.slice(0, NUM_RATINGS))
    parts = (part[part < NUM_RATINGS] for part in (dataset.parts.train, dataset.parts.validation, dataset.parts.test))
    return spec, replace(dataset, examples=few, parts=Parts(*parts))


def test_the_files_are_read_and_encoded(movielens: tuple[ExperimentSpec, Dataset]) -> None:
    spec, dataset = movielens
    assert isinstance(spec.model, TwoTowerSpec)
    users, films = (dataset.entities[name].table.data for name in ("userID", "movieID"))
    assert (users.num_rows, films.num_rows) == (6040, 3883)
    assert users.column("zip")[3].as_py() == "02460"
    assert films.column("title")[0].as_py() == "Toy Story (1995)"
    encoder = Encoder.fit(spec.model.demand(dataset), dataset, dataset.parts.train)
    assert [each.feature.name for each in encoder.features["userID"]] == [
        "id",
        "category:gender",
        "category:age",
        "category:occupation",
        "hashed-1024:zip",
        "crossed-64:('gender', 'age')",
    ]
    genres = next(each.feature for each in encoder.features["movieID"] if isinstance(each.feature, MultiHotFeature))
    known = genres.vocabulary.values.to_pylist()
    assert len(known) == 18
    bag = encoder.encode("movieID", dataset.entities["movieID"].table)[genres.name]
    assert isinstance(bag, Bag)
    first = bag.codes[bag.offsets[1] : bag.offsets[2]]
    assert {known[code - 1] for code in first.tolist()} == {"Animation", "Children's", "Comedy"}
    ages = dense(encoder.encode("userID", dataset.entities["userID"].table), "category:age")
    assert len(set(ages[1:].tolist())) == 7


def test_it_trains_and_places_a_film_without_ratings(movielens: tuple[ExperimentSpec, Dataset]) -> None:
    spec, dataset = movielens
    outcome = train_and_evaluate(spec, dataset, Silent())
    assert np.isfinite([interval.value for interval in outcome.evaluation.metrics.values()]).all()
    model = outcome.model
    assert isinstance(model, Retriever)
    rated = set(dataset.labelled("movieID", dataset.parts.train).to_pylist())
    cold = [place + 1 for place, key in enumerate(model.candidate.keys.to_pylist()) if key not in rated]
    assert len(cold) > 500
    vectors = model.candidate_vectors[cold]
    assert len(np.unique(vectors.round(5), axis=0)) > len(cold) / 2  # their features tell them apart
