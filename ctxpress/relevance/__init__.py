"""Relevance: how much texts, and the sentences in them, are of use for a question.

`scorer` is the contract and what a score is; `sentences` cuts texts; `bm25` scores by words,
`vectors` by similarity, `joint` reads question and text together with the bundled encoder;
`cascade` lets a cheap scorer choose what a dear one reads; `speech` finds conversations, in which
the surroundings of a sentence count; `huggingface` takes any reranker or encoder of the user's,
`callable` any function (`reading` is how both are given a text). Stages for documents ask one of
these.
"""

from __future__ import annotations

from ctxpress.relevance.callable import CallableScorer
from ctxpress.relevance.scorer import Relevance, RelevanceScorer
from ctxpress.relevance.sentences import split_sentences

__all__ = ["CallableScorer", "Relevance", "RelevanceScorer", "split_sentences"]
