"""Answers of a trained model that ranks: for known keys, raw rows, a history, new candidates, given pairs, or everyone.

A question becomes an :class:`~towerkit.recommend.asked.Asked`, whatever the model; from there on all models are answered alike.
"""

from towerkit.recommend.answers import answered
from towerkit.recommend.asked import Asked, by_history, by_keys, by_rows
from towerkit.recommend.choice import Choice, check_k, choice_of, key_list, plain_keys
from towerkit.recommend.embed import embedded, embedded_rows
from towerkit.recommend.everyone import CHUNK, Written, answer_everyone
from towerkit.recommend.neighbors import Which, similar
from towerkit.recommend.notes import notes_of, space_of, with_notes, with_space
from towerkit.recommend.pairs import pair_scores, queries_for_rows
from towerkit.recommend.predicted import scored_with_tasks, task_answers
from towerkit.recommend.through_index import Built, by_index, indexed, with_vectors

__all__ = [
    "CHUNK",
    "Asked",
    "Built",
    "Choice",
    "Which",
    "Written",
    "answer_everyone",
    "answered",
    "by_history",
    "by_index",
    "by_keys",
    "by_rows",
    "check_k",
    "choice_of",
    "embedded",
    "embedded_rows",
    "indexed",
    "key_list",
    "notes_of",
    "pair_scores",
    "plain_keys",
    "queries_for_rows",
    "scored_with_tasks",
    "similar",
    "space_of",
    "task_answers",
    "with_notes",
    "with_space",
    "with_vectors",
]
