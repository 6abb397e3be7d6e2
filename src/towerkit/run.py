"""A Run: the trained folder. It verifies itself, loads without running code, and answers raw rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import pyarrow as pa

from towerkit import recommend as asking
from towerkit.artifact.arrow import load_table
from towerkit.artifact.joint import load_joint
from towerkit.artifact.known import RETRIEVER_KEYS, RETRIEVER_OPTIONAL_KEYS
from towerkit.artifact.layout import check_layout
from towerkit.artifact.misfits import damaged_is_a_run_error
from towerkit.artifact.models import load_predictor, load_retriever
from towerkit.artifact.rankers import load_pair_scorer
from towerkit.artifact.space import hashes_in_manifest, space_id
from towerkit.core.errors import RunError, SpecError, listed, nearest
from towerkit.core.remarks import collecting
from towerkit.core.spec import parse
from towerkit.data.alike import read_alike, source_like
from towerkit.data.search.collection import read_judged
from towerkit.data.search.spec import CollectionSpec
from towerkit.data.table import Table
from towerkit.ensembles.rank_files import load_fusion
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.evaluation.result import Evaluation, side_by_side
from towerkit.evaluation.robustness import SHARES, Curve, Loss
from towerkit.evaluation.spec import EvaluationSpec
from towerkit.golden import replay_golden
from towerkit.index.contract import Index
from towerkit.index.files import StoredQueries, check_space, open_index, save_index
from towerkit.index.filling import Fill, alone
from towerkit.index.specs import IndexSpec
from towerkit.models.answer import Retriever, TaskPredictor
from towerkit.models.joint_retriever import JointRetriever
from towerkit.models.pair_scorer import PairScorer
from towerkit.new_rows import evaluate_answers, evaluate_losses, evaluate_pairs, pairs_of, rows_of
from towerkit.presets.fusion_table import FusionTable
from towerkit.storage.atomic import check_target
from towerkit.storage.documents import read_document
from towerkit.storage.hashes import content_hash, read_json
from towerkit.storage.manifest import Manifest, verify
from towerkit.storage.migrations import upgraded
from towerkit.trained import Model, RankingModel, column_groups

LOADERS: Mapping[str, Callable[[Path, int], Model]] = {
    "two_tower": load_retriever,
    "tower_model": load_predictor,
    "ranker": load_pair_scorer,
    "joint": load_joint,
    "late_fusion": load_fusion,
}
"""Kind -> how its model is read from a folder."""


P = ParamSpec("P")


def _with_remarks(method: Callable[Concatenate[Run, P], pa.Table]) -> Callable[Concatenate[Run, P], pa.Table]:
    """What was odd about the rows goes to the notes of the answer; see :func:`towerkit.notes_of`."""

    @wraps(method)
    def told(run: Run, /, *args: P.args, **kwargs: P.kwargs) -> pa.Table:
        with collecting() as remarks:
            answer = method(run, *args, **kwargs)
        return asking.with_notes(answer, remarks)

    return told


@dataclass(frozen=True, eq=False)
class Run:
    """An opened and verified Run folder; the model is loaded when first asked."""

    path: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Run:
        """Open a Run and check every file against its manifest.

        Raises:
            RunError: If the folder is not a Run, or a file is missing, unknown, truncated or changed.
        """
        folder = Path(path)
        manifest = verify(folder)
        check_layout(manifest.kind, manifest.files, str(folder))
        return cls(folder, manifest)

    @property
    def kind(self) -> str:
        """``two_tower``, ``tower_model``, ``ranker``, ``joint`` or ``late_fusion``."""
        return self.manifest.kind

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        """The spec it was trained with, every default written out."""
        found: Mapping[str, Any] = upgraded("spec.json", read_json(self.path / "spec.json"), self.manifest.format)
        return found

    @cached_property
    def model(self) -> Model:
        """The trained model, its golden request replayed.

        Raises:
            RunError: If the model cannot be loaded, or answers its golden request differently than when it was saved.
        """
        if self.kind not in LOADERS:
            raise RunError(
                f"{self.path} holds a model of kind '{self.kind}'; this version knows {listed(LOADERS)}. Upgrade towerkit."
            )
        with damaged_is_a_run_error(self.path):
            self.space  # noqa: B018 - vectors under another Run's id would be compared with what they do not fit
            model = LOADERS[self.kind](self.path / "model", self.manifest.format)
            golden = read_document(self.path / "golden.json", self.manifest.format, ("answers",))
            replay_golden(model, golden, self.path)
        return model

    @cached_property
    def space(self) -> str | None:
        """The embedding-space id; None for a model that has no vectors to compare.

        Two Runs with the same id turn the same raw row into the same vector. It is 64 hexadecimal digits, a hash of weights,
        fitted features and the model's spec; see :mod:`towerkit.artifact.space`. A Run whose query side was brought into the
        space of another one has that one's id.

        Raises:
            RunError: If the files are not those that the stored id was made of.
        """
        if self.kind != "two_tower":
            return None
        path = self.path / "model" / "model.json"
        content = read_document(path, self.manifest.format, RETRIEVER_KEYS, RETRIEVER_OPTIONAL_KEYS)
        found, stored = space_id(content, hashes_in_manifest(self.manifest.files)), self.manifest.space
        if found != stored and self.manifest.format >= 2:
            raise RunError(
                f"{self.path}: its embedding-space id is {str(stored)[:12]}…, and its weights, features and spec give "
                f"{found[:12]}…; its files do not belong together. Train the Run again."
            )
        return found

    @cached_property
    def evaluation(self) -> Evaluation:
        """What was measured on the held-out part when the Run was trained."""
        with damaged_is_a_run_error(self.path):
            content = self._metrics
            details = {name: load_table(self.path / file) for name, file in content["details"].items()}
            return Evaluation.from_dict(content["model"], details)

    @property
    def _metrics(self) -> dict[str, Any]:
        keys = ("model", "baselines", "details")
        return read_document(self.path / "metrics.json", self.manifest.format, keys, ("fusions",))

    @cached_property
    def baselines(self) -> dict[str, Evaluation]:
        """The baselines, measured on the same rows."""
        with damaged_is_a_run_error(self.path):
            content = self._metrics["baselines"]
            return {name: Evaluation.from_dict(values, {}) for name, values in content.items()}

    @cached_property
    def fusions(self) -> FusionTable | None:
        """What its fusion was chosen from; None where its spec named one."""
        with damaged_is_a_run_error(self.path):
            content = self._metrics.get("fusions")
            return None if content is None else FusionTable.from_dict(content)

    @property
    def tasks(self) -> list[str]:
        """The tasks that it predicts; empty for a ranking model."""
        return [] if isinstance(self.model, Retriever | RankFusion | JointRetriever) else list(self.model.tasks)

    @property
    def rankings(self) -> list[str]:
        """The sorts of candidates that a joint model ranks; empty for any other."""
        return list(self.model.members) if isinstance(self.model, JointRetriever) else []

    def ranking(self, name: str) -> Run:
        """One of the rankings of a joint model, to be asked as a two-tower is.

        Args:
            name: The sort of candidates; see :attr:`rankings`.

        Raises:
            RunError: If this Run is no joint model.
            SpecError: If it does not rank them.
        """
        model = self.model
        if not isinstance(model, JointRetriever):
            raise RunError(
                f"{self.path} is a {self.kind}, which ranks one sort of candidates or none; ask it as it is."
            )
        if name not in model.members:
            raise SpecError(
                f"{self.path} ranks no '{name}'{nearest(name, model.members) or '.'} It ranks {listed(model.members)}."
            )
        one = replace(self)
        baselines = {key: each.of(name) for key, each in self.baselines.items() if name in each.protocol["rankings"]}
        vars(one).update(model=model.members[name], evaluation=self.evaluation.of(name), baselines=baselines)
        return one

    def evaluate(self, data: Any = None) -> Evaluation:
        """The stored evaluation, or a fresh one on new rows.

        Args:
            data: A path or table of examples with the columns of the training data; None for what was measured when the
                Run was trained. Rows that are no pairs by the training's rules (positives, events) are left out.

        Raises:
            DataError: If the rows cannot be used.
        """
        if data is None:
            return self.evaluation
        with collecting() as remarks:
            return self._evaluated(self._read_examples(data)).with_warnings(remarks)

    def _evaluated(self, table: Table) -> Evaluation:
        model = self.model
        with damaged_is_a_run_error(self.path):
            spec = parse(EvaluationSpec, self.spec["evaluation"], str(self.path / "spec.json"))
        if isinstance(model, JointRetriever):
            return side_by_side(
                {name: self.ranking(name)._evaluated(part) for name, part in rows_of(model, table).items()}
            )
        if not isinstance(model, RankingModel):
            return evaluate_answers(model, table, spec)
        with damaged_is_a_run_error(self.path):
            pairs = pairs_of(table, model, self.evaluation.protocol["split"])
        return evaluate_pairs(model, pairs, spec)

    def robustness(
        self,
        data: Any,
        groups: Mapping[str, Sequence[str]] | Sequence[str] = (),
        *,
        shares: Sequence[float] = SHARES,
        loss: Loss = "blank",
        seed: int = 0,
    ) -> dict[str, Curve]:
        """How the figures fall as one group of columns is lost in more and more rows; see :mod:`towerkit.evaluation.robustness`.

        Args:
            data: A path or table of rows with labels that the Run has not learned from.
            groups: Name -> columns, or names of towers and members; every tower or member when not given.
            shares: Of the rows that lose the group.
            loss: ``blank`` takes the values away, ``permute`` exchanges them among these rows.
            seed: Draws the rows.

        Returns:
            Name -> its curve.

        Raises:
            RunError: If this Run ranks.
            SpecError: If a name is that of no tower and no member, or a share is none.
            DataError: If the rows cannot be used.
        """
        model = self.model
        if isinstance(model, RankingModel | JointRetriever):
            raise RunError(f"{self.path} ranks; robustness to lost columns is measured of models that predict.")
        with damaged_is_a_run_error(self.path):
            spec = parse(EvaluationSpec, self.spec["evaluation"], str(self.path / "spec.json"))
        names = groups or column_groups(model).keys()
        named = groups if isinstance(groups, Mapping) and groups else dict.fromkeys(names, ())
        return evaluate_losses(model, self._read(data), spec, named, shares=shares, loss=loss, seed=seed)

    def _read_examples(self, data: Any) -> Table:
        """A table, or judgements in the format of the search collection that the Run was trained on."""
        collection = (self.spec.get("data") or {}).get("collection")
        if collection is None or not isinstance(data, str | os.PathLike):
            return self._read(data)
        return read_judged(parse(CollectionSpec, collection, f"{self.path}, spec.json"), os.fspath(data))

    @_with_remarks
    def predict(self, rows: Any) -> pa.Table:
        """Answers for raw rows.

        Args:
            rows: A path or table. A tower model or late fusion wants the columns its towers read; a two-tower wants
                pairs, the query and the candidate column.

        Returns:
            One row per row: per task the class, its probabilities (the positive one alone where there are two classes), of
            several labels the list of those at or above the threshold, of a regression the number;
            for a two-tower the ``score`` of each pair. Where keys are read, ``cold`` says that one of a row's is unknown
            (``is_cold``, if a task has that name).

        Raises:
            DataError: If a column is missing or a value is of another kind.
        """
        table, model = self._read(rows), self.model
        if isinstance(model, Retriever | RankFusion):
            return asking.pair_scores(model, table)
        if isinstance(model, PairScorer):
            return asking.scored_with_tasks(model, table)
        if isinstance(model, JointRetriever):
            return asking.pair_scores(model.members[self._only_ranking()], table)
        return asking.task_answers(model, table)

    @_with_remarks
    def recommend(
        self,
        query: Any = None,
        *,
        rows: Any = None,
        history: Sequence[Any] | None = None,
        k: int = 10,
        exclude_seen: bool = True,
        allow: Any = None,
        deny: Any = None,
        where: str | None = None,
        index: Index | str | os.PathLike[str] | None = None,
    ) -> pa.Table:
        """The best candidates for a known query, for raw query rows, or for a history of candidates.

        Args:
            query: A key. One that training never saw is answered from what is known of nobody, marked ``cold``.
            rows: A path or table of query rows with the columns that the query side reads, or with keys alone. Where that side
                reads histories, a list column ``history`` holds what each of them met; else it is what is stored under the
                key. List columns ``allow`` and ``deny`` hold candidates that may, or may not, be the answers to a row.
            history: Keys of candidates that a new query met, oldest first; the query side must read histories or average
                candidates.
            k: How many; fewer are given when fewer candidates are left, and a note says why (see :func:`towerkit.notes_of`).
            exclude_seen: Leave out what the query had in training (or in ``history``).
            allow: Keys, or a path or table with a column of keys: only these may be answers.
            deny: Keys, a path or a table: none of these may be answers.
            where: A condition on the columns of the candidates, such as ``price < 20 and category == "books"``; see
                :mod:`towerkit.data.where`.
            index: An index of this Run's candidates, or its folder, to search in place of ranking all of them.

        Returns:
            Columns ``query``, ``rank``, the candidate's key, its title where there is one, ``score``, ``cold``. The key's
            column is called as in the data, with ``_key`` behind it if that is one of these names.

        Raises:
            RunError: If this Run does not rank, or the index is damaged or of another embedding space.
            DataError: If a row, a history, a list of keys or a column of a condition cannot be used.
            SpecError: If not exactly one of query, rows and history is given, ``k`` is below 1, or ``where`` is no condition.
        """
        if sum(given is not None for given in (query, rows, history)) != 1:
            raise SpecError("Ask for exactly one of query, rows or history.")
        asking.check_k(k)
        model = self._retriever()
        choice = self._choice(exclude_seen, allow, deny, where)
        if history is not None:
            asked = asking.by_history(model, history)
        elif rows is not None:
            asked = asking.by_rows(model, self._read(rows, model.query_entity))
        else:
            asked = asking.by_keys(model, [query])
        if index is not None:
            asked = asking.by_index(asked, self._opened_index(index), model.candidate)
        return asking.answered(model, asked, k, choice)

    def index(
        self,
        specs: IndexSpec | Sequence[IndexSpec] = (),
        *,
        out: str | os.PathLike[str] | None = None,
        recall: float | None = None,
        k: int = 20,
        queries: int = 1000,
        with_queries: bool = True,
        overwrite: bool = False,
        fill: Fill = alone,
        tell: Callable[[str], None] = lambda text: None,
    ) -> asking.Built:
        """Build an index of the candidates, for :meth:`recommend` or a service.

        Args:
            specs: What to build, or to choose among; with neither specs nor a recall, an exact index.
            out: A new folder to write it to.
            recall: The share of the best ``k`` that must be found; the fastest index that finds as many is taken.
            k: Hits that recall looks at.
            queries: Known queries to measure with.
            with_queries: Write the vectors of all known queries beside, with which a service starts without the model.
            overwrite: Replace an index that is there.
            fill: Puts the vectors into an index of faiss; see :func:`towerkit.index.filling.by_shards`.
            tell: Told what is being built.

        Returns:
            The index, its spec, and what was measured.

        Raises:
            RunError: If this Run has no vectors to search, or the folder cannot be written.
            SpecError: If an index cannot be built, or none finds enough.
            MissingExtraError: If faiss is not installed.
        """
        if out is not None:
            check_target(Path(out), overwrite)
        asking.check_k(k)
        asking.check_k(queries, "queries")
        model, chosen = self._retriever(), specs if isinstance(specs, Sequence) else [specs]
        built = asking.indexed(
            model, self._index_space, chosen, recall=recall, k=k, queries=queries, fill=fill, tell=tell
        )
        if out is not None:
            known = StoredQueries(model.query.keys, asking.with_vectors(model).query_vectors) if with_queries else None
            save_index(out, built.index, built.spec, measured=built.measured, queries=known, overwrite=overwrite)
        return built

    @property
    def _index_space(self) -> str | None:
        """The embedding-space id of the one ranking that is asked for; one of a joint model has an id of its own."""
        if self.kind != "joint":
            return self.space
        hashes = {name: file.sha256 for name, file in self.manifest.files.items() if name.startswith("model/")}
        return content_hash({"files": hashes, "ranking": self._retriever().candidate_entity})

    def recommend_all(
        self,
        out: str | os.PathLike[str],
        *,
        k: int = 10,
        exclude_seen: bool = True,
        allow: Any = None,
        deny: Any = None,
        where: str | None = None,
        chunk: int = asking.CHUNK,
        tell: Callable[[int, int], None] = lambda done, total: None,
    ) -> asking.Written:
        """The best candidates of every known query, into a file; an interrupted call goes on where it was.

        Args:
            out: A ``.parquet``, ``.csv`` or ``.arrow`` file, with the columns of :meth:`recommend`. Beside it stands the folder
                ``NAME.parts`` until it is whole.
            k: As in :meth:`recommend`.
            exclude_seen: As in :meth:`recommend`.
            allow: As in :meth:`recommend`.
            deny: As in :meth:`recommend`.
            where: As in :meth:`recommend`.
            chunk: Queries answered at a time: what the memory grows with.
            tell: Called with the number of queries answered and of all, after each chunk.

        Returns:
            What was written.

        Raises:
            RunError: If this Run does not rank, another process writes the file, or an interrupted call with other settings
                is in the way.
            DataError: If the file cannot be written, or a list of keys or a column of a condition cannot be used.
            SpecError: If ``k`` or ``chunk`` is below 1, or ``where`` is no condition.
        """
        asking.check_k(k)
        asking.check_k(chunk, "chunk")
        model, choice = self._retriever(), self._choice(exclude_seen, allow, deny, where)
        identity = {"run": content_hash({name: file.sha256 for name, file in self.manifest.files.items()})}
        return asking.answer_everyone(model, k, choice, Path(out), identity=identity, chunk=chunk, tell=tell)

    @_with_remarks
    def queries_for(self, candidates: Any, *, k: int = 10) -> pa.Table:
        """The queries that a new candidate fits best, from its raw row alone.

        Args:
            candidates: A path or table of candidate rows with the columns that the candidate side reads.
            k: How many queries for each.

        Returns:
            Columns ``candidate``, ``rank``, the query's key and ``score``.

        Raises:
            RunError: If this Run does not rank.
            DataError: If a row cannot be used.
            SpecError: If ``k`` is below 1.
        """
        asking.check_k(k)
        model = self._retriever()
        return asking.queries_for_rows(model, self._read(candidates, model.candidate_entity), k)

    def similar(
        self,
        candidate: Any = None,
        *,
        query: Any = None,
        k: int = 10,
        allow: Any = None,
        deny: Any = None,
        where: str | None = None,
    ) -> pa.Table:
        """The candidates most like a known one, or the queries most like a known query; without itself.

        Args:
            candidate: A key, or a list of keys.
            query: A key, or a list of keys, in place of ``candidate``.
            k: How many for each.
            allow: As in :meth:`recommend`, for candidates.
            deny: As in :meth:`recommend`, for candidates.
            where: As in :meth:`recommend`, for candidates.

        Returns:
            Columns ``similar_to``, ``rank``, the key, its title where there is one, and ``score``: the cosine of the vectors,
            or under a match by distance the negative squared distance.

        Raises:
            RunError: If this Run does not rank.
            DataError: If a key is unknown.
            SpecError: If not exactly one of candidate and query is given, ``k`` is below 1, or queries are chosen by ``allow``,
                ``deny`` or ``where``, which are about candidates.
        """
        if (candidate is None) == (query is None):
            raise SpecError("Ask for exactly one of candidate or query.")
        asking.check_k(k)
        if query is not None and not (allow is None and deny is None and where is None):
            raise SpecError("allow, deny and where choose candidates, and the question is for queries; leave them out.")
        choice = self._choice(exclude_seen=False, allow=allow, deny=deny, where=where)
        given = candidate if query is None else query
        keys = list(given) if isinstance(given, list | tuple) else [given]
        model = self._retriever()
        if not isinstance(model, Retriever):
            why = (
                "its members share no vector" if isinstance(model, RankFusion) else "it scores pairs and has no vectors"
            )
            raise RunError(
                f"{self.path} is a {self.kind}: {why}, and likeness is measured by vectors. Ask a two_tower."
            )
        return asking.similar(model, "candidate" if query is None else "query", keys, k, choice)

    @_with_remarks
    def embed(self, rows: Any = None, *, side: asking.Which | None = None) -> pa.Table:
        """Vectors: of keys or raw rows of one side of a two-tower, or what the backbone of a tower model makes of raw rows.

        Args:
            rows: A path or table: raw rows, or keys alone; for a two-tower every known key of that side when not given.
            side: ``query`` or ``candidate``; for a two-tower only.

        Returns:
            The key, ``vector`` (a list of float32) and ``cold``; for a tower model the keys that its towers read, if any. The
            table of a two-tower knows its embedding space (see :func:`towerkit.recommend.space_of`).

        Raises:
            RunError: If this Run is a late fusion, which has no vector of its own.
            DataError: If a row cannot be used.
            SpecError: If the side is missing, unknown, or given for a tower model.
        """
        model = self.model
        if isinstance(model, JointRetriever):
            return self.ranking(self._only_ranking()).embed(rows, side=side)
        if isinstance(model, Retriever):
            if side not in ("query", "candidate"):
                raise SpecError(
                    f"A two_tower has vectors of two sides: say query or candidate (--side); received {side!r}."
                )
            entity = model.query_entity if side == "query" else model.candidate_entity
            table = asking.embedded(model, side, None if rows is None else self._read(rows, entity))
            return asking.with_space(table, self.space)
        if not isinstance(model, TaskPredictor):
            why = "it scores pairs" if isinstance(model, PairScorer) else "its members share no vector"
            raise RunError(f"{self.path} is a {self.kind}: {why}. Embed with one tower_model or two_tower.")
        if side is not None:
            raise SpecError(f"A tower_model has one vector per row and no sides: leave side out; received {side!r}.")
        if rows is None:
            raise SpecError(
                "A tower_model keeps no rows: give the rows to embed, with the columns that its towers read."
            )
        return asking.embedded_rows(model, self._read(rows))

    def _opened_index(self, index: Index | str | os.PathLike[str]) -> Index:
        if not isinstance(index, Index):
            return open_index(index, space=self._index_space)
        check_space("This index", index.space, self._index_space)
        return index

    def _read(self, given: Any, entity: str | None = None) -> Table:
        """A table, read as the one of the training was: of an entity, or of examples."""
        return read_alike(given, source_like(self.spec.get("data"), entity))

    def _choice(self, exclude_seen: bool, allow: Any, deny: Any, where: str | None) -> asking.Choice:
        model = self._retriever()
        lists = {name: self._keys(name, given) for name, given in (("allow", allow), ("deny", deny))}
        return asking.choice_of(model.candidate, exclude_seen=exclude_seen, where=where, **lists)

    def _keys(self, setting: str, given: Any) -> list[Any] | None:
        """The candidate keys that were given as such, or as the column of a path or table."""
        if given is None:
            return None
        keys = asking.plain_keys(given)
        if keys is not None:
            return keys
        entity = self._retriever().candidate_entity
        names = (entity, self._retriever().candidate.key)
        return asking.key_list(self._read(given, entity), names, setting)

    def _only_ranking(self) -> str:
        """The one ranking of a joint model that has no other.

        Raises:
            SpecError: If it has several; says how to name one.
        """
        if len(self.rankings) > 1:
            raise SpecError(
                f"{self.path} ranks {listed(self.rankings)}: say which one is asked for, with --ranking {self.rankings[0]}, or "
                f'run.ranking("{self.rankings[0]}") in Python.'
            )
        return self.rankings[0]

    def _retriever(self) -> RankingModel:
        if isinstance(self.model, JointRetriever):
            return self.model.members[self._only_ranking()]
        if not isinstance(self.model, RankingModel):
            raise RunError(
                f"{self.path} is a {self.kind}: it predicts {', '.join(self.tasks)} and does not rank candidates. "
                "Use predict, or train a two_tower."
            )
        return self.model


def load_run(path: str | os.PathLike[str]) -> Run:
    """Open and verify a Run; see :class:`Run`.

    Args:
        path: The Run's folder.

    Raises:
        RunError: If the folder is not a Run, or a file is missing, unknown, truncated or changed.
    """
    return Run.load(path)
