"""The public data sets that ``towerkit data fetch`` knows: addresses, terms, and how a spec reads them.

Nothing here is a copy of anybody's data. A checksum is never written down unless somebody states it: MovieLens has a
``.md5`` file beside each archive, which is fetched and compared each time; the authors' repository of the LightGCN
split states none, so the first fetch records one (:mod:`towerkit.data.fetch`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

_GROUPLENS = "https://files.grouplens.org/datasets/movielens"
_LIGHTGCN = "https://raw.githubusercontent.com/gusye1234/LightGCN-PyTorch/master/data"
_MIB = 2**20


@dataclass(frozen=True)
class PublicFile:
    """One file of a set."""

    name: str
    url: str
    max_bytes: int
    """More than the file ever had, by a good margin; a server that declares or sends more is refused."""
    kind: Literal["zip", "adjacency"]
    members: tuple[str, ...] = ()
    """What a zip archive must hold."""
    md5_url: str | None = None
    """Where the publisher states the MD5, if anywhere."""
    md5_elsewhere: str | None = None
    """An MD5 that a collection other than the publisher states; it is compared and told, never required."""


@dataclass(frozen=True)
class PublicSet:
    """A data set that its publisher offers to everybody."""

    name: str
    about: str
    page: str
    terms: str
    """What the publisher asks, in our words; the publisher's own text decides."""
    redistribution: str
    files: tuple[PublicFile, ...]
    data: Mapping[str, Any]
    """The ``data`` part of a spec; ``{folder}`` stands for the folder of the set."""

    def snippet(self, folder: str) -> str:
        """The ``data`` part of a spec as YAML.

        Args:
            folder: Where the files lie, as a spec names it.
        """
        return yaml.safe_dump(
            {"data": _filled(self.data, folder)},
            sort_keys=False,
            allow_unicode=True,
            width=110,
            default_flow_style=None,
        )


def _filled(value: Any, folder: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(inner, folder) for key, inner in value.items()}
    return value.replace("{folder}", folder) if isinstance(value, str) else value


_MOVIELENS_TERMS = (
    "Research use; no commercial use without permission of the GroupLens project; no endorsement may be implied; "
    "publications cite Harper and Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015. The README in the archive has "
    "the full terms."
)
_LIGHTGCN_TERMS = (
    "The repository of the LightGCN authors offers the split without naming a license for the data; publications cite He et al., "
    "LightGCN, SIGIR 2020. {source}"
)
_UNCLEAR = "Not granted by the publisher; do not pass the files on."
_GENRES = [
    "unknown", "action", "adventure", "animation", "childrens", "comedy", "crime", "documentary", "drama", "fantasy",
    "film_noir", "horror", "musical", "mystery", "romance", "sci_fi", "thriller", "war", "western",
]  # fmt: skip


def _movielens(
    name: str, about: str, redistribution: str, members: tuple[str, ...], data: Mapping[str, Any]
) -> PublicSet:
    url = f"{_GROUPLENS}/{name}.zip"
    file = PublicFile(
        f"{name}.zip", url, 64 * _MIB, "zip", tuple(f"{name}/{member}" for member in members), md5_url=f"{url}.md5"
    )
    page = "https://grouplens.org/datasets/movielens/"
    return PublicSet(name, about, page, _MOVIELENS_TERMS, redistribution, (file,), data)


def _lightgcn(name: str, about: str, source: str, train_md5: str, test_md5: str) -> PublicSet:
    """One of the three sets of the LightGCN paper; the MD5 are those that the RecZoo collection states for the split."""
    files = tuple(
        PublicFile(f"{part}.txt", f"{_LIGHTGCN}/{name}/{part}.txt", 64 * _MIB, "adjacency", md5_elsewhere=md5)
        for part, md5 in (("train", train_md5), ("test", test_md5))
    )
    pairs = {"format": "adjacency", "names": ["user", "item"]}
    data = {
        "examples": {"path": "{folder}/train.txt", **pairs, "query": "user", "candidate": "item"},
        "test": {"path": "{folder}/test.txt"},
    }
    page = "https://github.com/gusye1234/LightGCN-PyTorch"
    return PublicSet(name, about, page, _LIGHTGCN_TERMS.format(source=source), _UNCLEAR, files, data)


_SETS = (
    _movielens(
        "ml-100k",
        "MovieLens 100K: 100,000 ratings of 943 users and 1,682 movies, 1997 to 1998, with features of both",
        "Forbidden without separate permission of GroupLens.",
        ("u.data", "u.item", "u.user"),
        {
            "examples": {
                "path": "{folder}/ml-100k.zip::ml-100k/u.data",
                "separator": "\t",
                "names": ["user", "item", "rating", "time"],
                "query": "user",
                "candidate": "item",
                "time": "time",
            },
            "entities": {
                "user": {
                    "path": "{folder}/ml-100k.zip::ml-100k/u.user",
                    "separator": "|",
                    "names": ["user", "age", "gender", "occupation", "zip"],
                },
                "item": {
                    "path": "{folder}/ml-100k.zip::ml-100k/u.item",
                    "separator": "|",
                    "encoding": "latin-1",
                    "names": ["item", "title", "release_date", "video_release_date", "url", *_GENRES],
                    "title": "title",
                },
            },
        },
    ),
    _movielens(
        "ml-1m",
        "MovieLens 1M: 1,000,209 ratings of 6,040 users and 3,706 movies, 2000 to 2003, with features of both",
        "Forbidden without separate permission of GroupLens.",
        ("ratings.dat", "movies.dat", "users.dat"),
        {
            "examples": {
                "path": "{folder}/ml-1m.zip::ml-1m/ratings.dat",
                "separator": "::",
                "names": ["user", "item", "rating", "time"],
                "query": "user",
                "candidate": "item",
                "time": "time",
            },
            "entities": {
                "user": {
                    "path": "{folder}/ml-1m.zip::ml-1m/users.dat",
                    "separator": "::",
                    "names": ["user", "gender", "age", "occupation", "zip"],
                },
                "item": {
                    "path": "{folder}/ml-1m.zip::ml-1m/movies.dat",
                    "separator": "::",
                    "encoding": "latin-1",
                    "names": ["item", "title", "genres"],
                    "title": "title",
                },
            },
        },
    ),
    _movielens(
        "ml-latest-small",
        "MovieLens latest-small: about 100,000 ratings in half stars, titles, genres and tags; GroupLens replaces it at times",
        "Allowed under the same terms.",
        ("ratings.csv", "movies.csv"),
        {
            "examples": {
                "path": "{folder}/ml-latest-small.zip::ml-latest-small/ratings.csv",
                "query": "userId",
                "candidate": "movieId",
                "time": "timestamp",
            },
            "entities": {
                "movieId": {
                    "path": "{folder}/ml-latest-small.zip::ml-latest-small/movies.csv",
                    "title": "title",
                },
            },
        },
    ),
    _lightgcn(
        "gowalla",
        "Gowalla check-ins, LightGCN split: 810,128 training and 217,242 test pairs, 29,858 users, 40,981 places",
        "The check-ins come from the SNAP collection of Stanford University.",
        "5eec1eb2edb8dd648377d348b8e136cf",
        "c04e2c4bcd2389f53ed8281816166149",
    ),
    _lightgcn(
        "yelp2018",
        "Yelp 2018, LightGCN split: 1,237,259 training and 324,147 test pairs, 31,668 users, 38,048 businesses",
        "The reviews come from the Yelp Open Dataset, which has terms of its own (https://www.yelp.com/dataset).",
        "1b8b5d22a227e01d6de002c53d32b4c4",
        "0d57d7399862c32152b045ec5d2698e7",
    ),
    _lightgcn(
        "amazon-book",
        "Amazon books, LightGCN split: 2,380,730 training and 603,378 test pairs, 52,643 users, 91,599 books",
        "The reviews come from the Amazon collection of the McAuley group (http://jmcauley.ucsd.edu/data/amazon).",
        "c916ecac04ca72300a016228258b41ed",
        "30f8ccfea18d25007ba9fb9aba4e174d",
    ),
)

PUBLIC_SETS: Mapping[str, PublicSet] = {each.name: each for each in _SETS}
"""Name -> set."""
