"""Text to measure speed with: minutes of a committee, made of phrases; repeatable, with variety."""

from __future__ import annotations

import random

__all__ = ["long_text", "short_prompts"]

_OPENINGS = (
    "As it was said at the last meeting",
    "So, just to go through this quickly",
    "In the opinion of the treasurer",
    "Okay, um, coming back to what we talked about before",
    "According to the report that was handed out in {month}",
    "It should perhaps be mentioned at this point",
    "Well, I mean, if I remember it correctly",
)
_SUBJECTS = (
    "the heating of the {place}",
    "the contract with {name} and Sons",
    "the delivery of {number} {goods}",
    "the new software for the {place}",
    "the survey that {name} made in {month}",
    "the licence for the {place}",
)
_EVENTS = (
    "is going to cost about {number},500 euros more than we had planned",
    "has to be renewed before the {day}th of {month}, or it will run out",
    "was put off again, because the people from {town} could not come",
    "turned out to be rather better than anybody had expected",
    "needs {number} hours of work, which nobody here really has the time for",
    "will be looked after by {name}, who has already written to the office in {town}",
)
_ENDINGS = (
    "and so it was agreed to come back to it in {month}.",
    "which is, as you can imagine, not what {name} wanted to hear.",
    "so we should probably think about what that means for the {place}.",
    "although, to be honest, I am not at all sure about it.",
    "and {name} will send the figures to everybody by the {day}th.",
    "but that is something for another day, I think.",
)
_WORDS = {
    "month": ("January", "March", "May", "July", "September", "November"),
    "place": ("north wing", "workshop", "library", "canteen", "archive", "boat house", "hall"),
    "name": ("Lindholm", "Marlowe", "Okafor", "Berger", "Tanaka", "Novak", "Silva", "Petersen"),
    "goods": ("window frames", "printers", "oak boards", "crates of paper", "safety helmets"),
    "town": ("Ostrand", "Kelby", "Marienau", "Port Hale", "Vessing"),
}


def long_text(n_words: int, seed: int = 0) -> str:
    """Paragraphs of prose with at least `n_words` words."""
    rng = random.Random(seed)
    paragraphs: list[str] = []
    words = 0
    while words < n_words:
        paragraph = " ".join(_sentence(rng) for _ in range(rng.randint(3, 7)))
        words += len(paragraph.split())
        paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)


def short_prompts(n_prompts: int, seed: int = 1) -> list[str]:
    """Prompts of two sentences, about fifty words each."""
    rng = random.Random(seed)
    return [f"{_sentence(rng)} {_sentence(rng)}" for _ in range(n_prompts)]


def _sentence(rng: random.Random) -> str:
    opening, subject, event, ending = map(rng.choice, (_OPENINGS, _SUBJECTS, _EVENTS, _ENDINGS))
    text = f"{opening}, {subject} {event}, {ending}"
    for name, words in _WORDS.items():
        while f"{{{name}}}" in text:
            text = text.replace(f"{{{name}}}", rng.choice(words), 1)
    while "{number}" in text:
        text = text.replace("{number}", str(rng.randint(2, 90)), 1)
    return text.replace("{day}", str(rng.randint(4, 19)))
