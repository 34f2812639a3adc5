"""Which words may differ between two texts that say the same: plain ones, and no others.

A number, a name, a negation, or a word that turns a statement round (more, less, before, after,
increased) makes another statement of a sentence; a word of a script without capitals may be a
name. The lists hold what is common in the languages that are written in Latin letters; a word that
is missing only matters where two long texts differ in that word and in hardly anything else.
"""

from __future__ import annotations

import re
from collections.abc import Set
from enum import IntEnum

__all__ = ["Class", "classify", "oppose"]

_DENYING = re.compile(r"(?:un|non-?|dis|mis|anti-?|in|im|il|ir)(?=[a-z]{3})")


class Class(IntEnum):
    """What a word is to the question whether two texts say the same.

    A `TURNING` word binds the word behind it: what is negated must be the same too.
    """

    PLAIN = 0
    FACT = 1
    TURNING = 2
    UNSPACED = 3
    CASELESS = 4


def classify(surface: str, folded: str, *, unspaced: bool) -> Class:
    """The class of a word as it is written; `folded` is its form without case."""
    if unspaced:
        return Class.UNSPACED
    if folded in _TURNING or folded.endswith("n't"):
        return Class.TURNING
    if folded in _PERSONS or any(c.isnumeric() or c == "_" for c in surface):
        return Class.FACT
    if len(folded) == 1 and folded not in _SINGLE_LETTER_WORDS and folded.islower():
        return Class.FACT  # a variable, an option of a list
    if surface.islower():
        return Class.PLAIN
    if surface == surface.capitalize() and folded in _OPENERS:
        return Class.PLAIN
    if surface.lower() == surface.upper() and any(c.isalpha() for c in surface):
        return Class.CASELESS
    return Class.FACT


def oppose(one: Set[str], other: Set[str]) -> bool:
    """Whether a word that only one of two texts has denies one that only the other has.

    By its form: safe and unsafe, complete and incomplete, harmful and harmless.
    """
    return _denies(one - other, other - one) or _denies(other - one, one - other)


def _denies(words: Set[str], others: Set[str]) -> bool:
    for word in words:
        denied = _DENYING.sub("", word, count=1) if _DENYING.match(word) else ""
        if denied in others:
            return True
        stem = word.removesuffix("less")
        if len(stem) > 2 and stem != word and f"{stem}ful" in others:
            return True
    return False


_TURNING = frozenset(
    # English: negations, quantities, order, direction, degree, modality.
    "no not none never nor neither nobody nothing nowhere cannot cant dont doesnt didnt isnt wasnt "
    "wont without except unless hardly barely scarcely rarely seldom only false true fails failed "
    "all any every each some both either few fewer less least many more most several half double "
    "twice once thrice triple zero one two three four five six seven eight nine ten eleven twelve "
    "thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty "
    "seventy eighty ninety hundred hundreds thousand thousands million millions billion billions "
    "trillion dozen first second third fourth fifth sixth seventh eighth ninth tenth last next "
    "previous before after until since during above below over under between inside outside up "
    "down left right north south east west higher lower highest lowest larger smaller largest "
    "smallest better worse best worst earlier later early late increase increases increased "
    "increasing decrease decreases decreased decreasing rise rises rose risen rising fall falls "
    "fell fallen falling grow grows grew growing shrink shrank gain gains gained lose loses lost "
    "win wins won pass passes passed accept accepts accepted reject rejects rejected approve "
    "approved deny denies denied allow allows allowed forbid forbids forbidden prohibited enable "
    "enables enabled disable disables disabled open opens opened close closes closed start starts "
    "started stop stops stopped begin began end ended buy bought sell sold import imported export "
    "exported add added remove removed include includes included exclude excludes excluded valid "
    "invalid legal illegal possible impossible able unable likely unlikely positive negative "
    "must may might can could shall should will would always sometimes often "
    "today tomorrow yesterday daily weekly monthly yearly annually "
    # German, French, Spanish, Portuguese, Italian, Dutch: negations and quantities.
    "nicht kein keine keinen keinem keiner keines nie niemals niemand nichts ohne weder nur mehr "
    "weniger alle vor nach ne pas jamais rien aucun aucune personne sans ni seulement plus moins "
    "tous avant après nunca nada nadie ningún ninguna ninguno sin más menos todos antes después "
    "não nem ninguém nenhum nenhuma sem mais depois non mai niente nessuno nessuna senza né più "
    "meno tutti prima dopo niet geen nooit niemand niets zonder meer minder voor na "
    # Russian and Ukrainian, Greek.
    "не ни нет никогда никто ничего без нельзя ні ніколи ніхто нічого δεν μη ποτέ χωρίς".split()
)
_PERSONS = frozenset(
    "i you he she they we me him her them us my your his hers their theirs our ours who "
    "whose".split()
)
_SINGLE_LETTER_WORDS = frozenset("aeouyàéèóùиявкосуіз")
_OPENERS = frozenset(
    "a an the this that these those it its there here in on at by for from to of with into as and "
    "or but so yet if when while where because although though however therefore thus hence "
    "moreover furthermore also then now finally what which how why is are was were be been being "
    "has have had do does did according such other another about against among through "
    "die der das ein eine le la les un une el los las una il lo de het een".split()
)
