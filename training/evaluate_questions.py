"""How well the scores of use find quotes and answers of held-out questions."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from ctxpress.models import OnnxTokenScorer
from training.evaluate import area_under_curve
from training.questions import Item, character_labels, with_question


def use_table(scorer: OnnxTokenScorer, items: Sequence[Item]) -> str:
    """Markdown: AUC of both scores, over the sub-tokens of all passages of `items`.

    The score to keep, which no question decides, is what the score of use has to beat.
    """
    keep, use, quoted, answers, sure = [], [], [], [], []
    for item in items:
        for index in range(len(item.passages)):
            example = with_question(item, index, random.Random(item.id))
            (alone,) = scorer.score([example.text])
            (asked,) = scorer.score([example.text], question=example.question)
            in_quote, in_answer, unsure = character_labels(example)
            keep.append(alone.keep_scores)
            use.append(asked.use_scores)
            quoted.append(in_quote[alone.starts])
            answers.append(in_answer[alone.starts])
            sure.append(~unsure[alone.starts])
    known = np.concatenate(sure)
    truths = {
        "in a quote that helps": (np.concatenate(quoted), np.ones_like(known)),
        "in an answer": (np.concatenate(answers), known),
    }
    lines = [
        "| sub-tokens to find | by use for the question | by the score to keep |",
        "|---|---|---|",
    ]
    for name, (truth, mask) in truths.items():
        areas = [
            area_under_curve(truth[mask], np.concatenate(scores)[mask].astype(np.float64))
            for scores in (use, keep)
        ]
        lines.append(f"| {name} | {areas[0]:.4f} | {areas[1]:.4f} |")
    return "\n".join(lines)
