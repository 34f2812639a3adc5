"""Small sets of our own making, in the forms of the real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

QUESTIONS = [
    {
        "question": "When was the mill at Ostrand rebuilt?",
        "answers": ["1874", "in 1874"],
        "text": "Ostrand Mill. The mill, which had for many years stood empty beside the river, "
        "was destroyed by a fire in the winter and was then rebuilt in 1874 by Karl Lindholm, who "
        "had made his money in the timber trade and who wanted to give work to the village.",
    },
    {
        "question": "Who designed the clock tower?",
        "answers": ["Edith Marlowe"],
        "text": "The clock tower. As most visitors will notice, the tower in the middle of the "
        "square was designed by Edith Marlowe, although it is often said that her brother had "
        "a part in it, and it was opened to the public on a rainy day in the spring of 1902.",
    },
    {
        "question": "What does the ferry carry?",
        "answers": ["the mail", "mail and bread"],
        "text": "The ferry. It goes to the island twice a week, and in the months of the winter "
        "it carries mail and bread, since there is, as the islanders like to say, no other way "
        "for anything at all to get there while the ice is still too thin to be walked upon.",
    },
]
PROBLEMS = [
    {
        "question": "Nora bought 12 boxes of 3.50 crowns each, and then, because she had a coupon, "
        "she got 1/4 of the boxes for free. How many crowns did Nora pay for all of her boxes?",
        "answer": "31.5",
        "solution": "…",
    },
    {
        "question": "A train with 1,200 seats is 75% full when it leaves, and at the next station "
        "another 80 people get on. How many of the seats of the train are taken after that?",
        "answer": "980",
        "solution": "…",
    },
]
MEETINGS = [
    {
        "question": "What was decided about the battery?",
        "reference": "A rechargeable one.",
        "turns": [
            "Chair: Okay , so , um , welcome everybody .",
            "Design: The battery should be rechargeable , lithium , eighteen hours .",
            "Chair: Mm-hmm .",
            "Sales: Well , you know , I think that is , like , good . ",
            "Chair: Right , so a lithium battery it is , decided .",
        ],
        "relevant": [1, 4],
    }
]
_FILLER = [
    "Coral reefs need warm water and are found near the coasts of many lands, as divers know.",
    "Bees dance to show where flowers are, and the others follow them out of the hive at noon.",
    "The village has a school, a bakery and a church, which is open on the first day of the month.",
    "Karl liked tea. He drank it with milk, and his sister did so as well for all of her life.",
]
RAG = [
    *(
        {
            "question": one["question"],
            "answers": one["answers"],
            "documents": [
                *({"id": f"f{n}", "title": None, "text": text} for n, text in enumerate(_FILLER)),
                {"id": "gold", "title": str(one["text"]).partition(".")[0], "text": one["text"]},
                *({"id": f"g{n}", "title": "More", "text": text} for n, text in enumerate(_FILLER)),
                *({"id": f"h{n}", "title": "Else", "text": text} for n, text in enumerate(_FILLER)),
            ],
            "gold": "gold",
        }
        for one in QUESTIONS
    ),
    {
        "question": "Which comet was seen in the year of the eclipse?",
        "answers": ["Halley"],
        "documents": [{"id": str(n), "title": "", "text": text} for n, text in enumerate(_FILLER)],
        "gold": None,
    },
]
SETS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "nq": QUESTIONS,
    "gsm8k": PROBLEMS,
    "meeting": MEETINGS,
}


def write_sets(folder: Path) -> Path:
    """All files; returns `folder`."""
    for name, rows in [*SETS.items(), ("rag", RAG)]:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}_dev.jsonl").write_text(lines, "utf-8")
    return folder
