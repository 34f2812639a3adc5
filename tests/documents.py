"""Documents for tests: what was retrieved for a question, in sentences that can be told apart."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["QUESTION", "RETRIEVED", "Retrieved", "retrieved_for"]

QUESTION = "How tall is the Eiffel Tower, and who designed the Eiffel Tower?"


@dataclass(frozen=True)
class Retrieved:
    """A document: ``score`` falls from the first to the last as a retriever's does."""

    title: str
    sentences: tuple[str, ...]
    score: float = 0.0

    @property
    def text(self) -> str:
        return " ".join(self.sentences)

    @property
    def paragraphs(self) -> str:
        """The same text in two paragraphs."""
        half = len(self.sentences) // 2
        return "\n\n".join((" ".join(self.sentences[:half]), " ".join(self.sentences[half:])))


RETRIEVED = (
    Retrieved(
        "Marie Curie",
        (
            "Marie Curie was born in Warsaw in the year 1867 as the youngest of five children.",
            "She moved to Paris to study physics and chemistry at the old university.",
            "Her notebooks are still radioactive and are kept in boxes lined with lead.",
            "She remains the only person with Nobel Prizes in two sciences.",
        ),
        0.9,
    ),
    Retrieved(
        "The Seine",
        (
            "The Seine rises near Dijon and flows through the middle of Paris to the sea.",
            "Barges carry gravel and grain along the lower river all through the winter.",
            "The great flood of January 1910 filled cellars and tunnels for many weeks.",
            "Anglers report that salmon have come back after a century of absence.",
        ),
        0.8,
    ),
    Retrieved(
        "The Eiffel Tower",
        (
            "The Eiffel Tower is 330 metres tall and stands near the Seine in Paris.",
            "The Eiffel Tower was designed by engineers of the company of Gustave Eiffel.",
            "Painters need sixty tonnes of paint for it every seven years or so.",
            "Visitors who take the stairs climb several hundred steps before they rest.",
        ),
        0.7,
    ),
    Retrieved(
        "Bees",
        (
            "Bees dance in the dark of the hive to show where flowers are to be found.",
            "A colony keeps its brood nest warm by shivering through the cold nights.",
            "Keepers smoke the hive before they lift the frames out one after another.",
            "Honey keeps for centuries when it is sealed against moisture and air.",
        ),
        0.6,
    ),
    Retrieved(
        "Towers of iron",
        (
            "Iron towers became fashionable after the fair and many towns planned one.",
            "Blackpool opened a tower half as tall as the Eiffel Tower within five years.",
            "Lightning conductors were fitted to each of them on the advice of physicists.",
            "Most of the plans were never built because the money could not be found.",
        ),
        0.5,
    ),
)


def retrieved_for(turn: int) -> tuple[Retrieved, ...]:
    """The same documents in words of a turn's own."""
    return tuple(
        Retrieved(
            f"{one.title} {turn}",
            tuple(f"{sentence[:-1]}, says report {turn}." for sentence in one.sentences),
            one.score,
        )
        for one in RETRIEVED
    )
