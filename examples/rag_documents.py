"""What the RAG examples retrieve from: a few notes of an invented housing cooperative."""

from __future__ import annotations

import re
from dataclasses import dataclass

QUESTION = "Until when is the supplier's offer for the new boiler valid, and what does it cost?"


@dataclass(frozen=True)
class Note:
    """A note as it lies in the archive."""

    id: str
    title: str
    text: str


NOTES = (
    Note(
        "minutes-03",
        "Minutes of the March meeting",
        "The board met on 12 March in the reading room, with seven members present and two who "
        "had sent their apologies. After a rather long discussion about the minutes of the last "
        "meeting, which were in the end approved without changes, the chair turned to the "
        "heating. As most of the members already knew, the boiler of the north wing had failed "
        "twice in January, and on both occasions the tenants were without hot water for about "
        "two days. The supplier has sent an offer for a new condensing boiler at 48,200 euros "
        "including installation. The offer is valid until 30 June. Some of the members felt "
        "that this was a lot of money, and it was suggested, more than once, that a second "
        "offer might be asked for before anything was signed.",
    ),
    Note(
        "letter-supplier",
        "Letter of the supplier",
        "Dear members of the board, thank you very much for the friendly welcome last week and "
        "for the time that you took to show us around the building. We are pleased to send you, "
        "as we promised, our offer for the replacement of the boiler in the north wing. The "
        "price is 48,200 euros and includes the removal of the old boiler, the installation, "
        "and a first inspection after one year. Extending the warranty from two to five years "
        "would cost another 1,900 euros. We hold ourselves to this offer until 30 June, and we "
        "would of course be very happy to answer any further questions that you may have in the "
        "meantime.",
    ),
    Note(
        "garden",
        "Notes on the garden",
        "The apple trees along the southern wall were pruned in February, somewhat later than "
        "usual, and they seem to have taken it well. The working group would like to remind "
        "everybody that the compost is meant for garden waste only, and that the key to the "
        "shed hangs in the office. There is still some money left from last year's summer "
        "party, and the working group proposes to spend it on two benches, for which three "
        "neighbours have already offered their help.",
    ),
    Note(
        "report-engineers",
        "Report of the engineers",
        "We inspected the heating of the north wing on 3 February. The boiler, which was "
        "installed in 1994, has reached the end of its expected life, and spare parts for its "
        "burner are no longer made. In our opinion it would be wiser to replace the boiler "
        "altogether before the next winter than to repair it once more. The second pump had "
        "been switched off, and nobody was able to tell us why. We recommend that the pipes be "
        "flushed before a new boiler is connected, as there is a good deal of sludge in them.",
    ),
)


def search(question: str, limit: int = 3) -> list[tuple[Note, float]]:
    """The notes that share most words with ``question``, with the share of its words as score."""
    wanted = set(re.findall(r"\w{4,}", question.lower()))
    scored = [
        (note, len(wanted & set(re.findall(r"\w{4,}", note.text.lower()))) / len(wanted))
        for note in NOTES
    ]
    return sorted(scored, key=lambda pair: -pair[1])[:limit]
