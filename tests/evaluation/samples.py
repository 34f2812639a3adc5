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
SETS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "nq": QUESTIONS,
    "gsm8k": PROBLEMS,
    "meeting": MEETINGS,
}


def write_sets(folder: Path) -> Path:
    """All three files; returns `folder`."""
    for name, rows in SETS.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}_dev.jsonl").write_text(lines, "utf-8")
    return folder
