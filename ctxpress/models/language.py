"""Which language a text is in, as far as protection needs to know.

Law 1 protects text in a language for which the model's card shows no measured quality. So the
detector must not call another language English; where it cannot tell (few words, code, lists
of names) it answers `"und"` and leaves the decision to the caller. Scripts are told apart by shares
of letters; languages in Latin letters by their function words, the most frequent words of any
running text (Grefenstette 1995, "Comparing two language identification schemes").
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

UNDETERMINED = "und"

_SAMPLE_CHARACTERS = 6000
"""Longer texts are judged by three samples of a third of this: start, middle, end."""
_MIN_WORDS = 4
_OTHER_SCRIPT_SHARE = 0.2
"""From this share of letters on, another script decides; letters of scripts that write a word in
one or two of them count double."""
_MIN_COVERAGE = 0.12
"""Least share of function words among the words of a text for a verdict."""
_LEAD = 1.25
"""How clearly English must beat, or be beaten by, the next best language."""
_FOREIGN_LETTER_SHARE = 0.1
_FOREIGN_LETTERS = 15
_PLAIN_COVERAGE, _PLAIN_WORDS = 0.2, 3
"""English with names and pronunciations in other letters: its function words are so large a part of
the words, and so many different ones belong to no other language."""
_ENGLISH_ONLY = (("en", 1.0),)
"""English has hardly any letters outside ASCII: a text with more than both of these is not it."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_DENSE = frozenset({"zh", "ja", "ko"})
_SCRIPTS = {
    "zh": r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]",
    "ja": r"[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f]",
    "ko": r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]",
    "ru": r"[\u0400-\u052f]",
    "el": r"[\u0370-\u03ff\u1f00-\u1fff]",
    "he": r"[\u0590-\u05ff]",
    "ar": r"[\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff]",
    "hi": r"[\u0900-\u097f]",
    "bn": r"[\u0980-\u09ff]",
    "ta": r"[\u0b80-\u0bff]",
    "te": r"[\u0c00-\u0c7f]",
    "th": r"[\u0e00-\u0e7f]",
    "ka": r"[\u10a0-\u10ff]",
    "hy": r"[\u0530-\u058f]",
    "am": r"[\u1200-\u137f]",
    "km": r"[\u1780-\u17ff]",
    "my": r"[\u1000-\u109f]",
}
_ANY_OTHER_SCRIPT = re.compile("|".join(_SCRIPTS.values()))

_FUNCTION_WORDS = {
    "en": "the of and to in is that for it with as was on are be this by at from or an have "
    "not you which we they has were but their can will its been if when all there "
    "would what who one more so about into than them only other also these your our "
    "how do does did should any each no he she his her i my me where then some such "
    "because while after before may must i'm it's don't we're that's just know think "
    "yeah",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als "
    "auch es an werden aus er hat dass sie nach wird bei einer um am sind noch wie "
    "einem über einen so zum war haben nur oder aber vor zur bis mehr durch man sein "
    "wurde ich wir ihr wenn kann diese",
    "fr": "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne "
    "se ce il sont avec ou son aux mais comme cette être on ont ses nous vous elle "
    "était leur sa fait aussi peut même ces tout je d'un d'une c'est qu'il n'est l'on "
    "si sans",
    "es": "de la que el en y a los se del las un por con no una su para es al lo como más o "
    "pero sus le ha me si sin sobre este ya entre cuando todo esta ser son dos "
    "también fue había era muy hasta desde está mi porque qué sólo han yo hay",
    "it": "di e il la che in a per un è del non una sono della con si da le i dei nel alla "
    "più al ha come anche lo ma o delle gli su se dalla nella questo essere stato ai "
    "era loro dal ed cui suo sua questa degli tra quando molto c'è dell'anno io mi",
    "pt": "de a o que e do da em um para com não uma os no se na por mais as dos como mas "
    "ao ele das à seu sua ou quando muito nos já eu também só pelo pela até isso ela "
    "entre depois sem mesmo aos seus quem nas me esse eles você essa num são foi está",
    "nl": "de van het een en in is dat op te zijn met voor niet aan er om ook als dan maar "
    "bij of uit nog door naar over ze hij wordt werd heeft hebben had deze was kan "
    "geen meer worden ik je we die tot dit wel",
    "sv": "och i att det som en på är av för med till den har de inte om ett han men var "
    "jag sig från vi så kan när år under också efter eller nu sin där vid mot ska "
    "skulle kommer ut får finns vara hade alla andra mycket än här då sedan över bara",
    "da": "og i at det er en til af på for med den de som der ikke et har han var om vi sig "
    "men jeg kan fra ved blev så også skal efter eller hvor hvad være når over ud "
    "have nu mod bliver noget",
    "no": "og i det er på til som en av for at med de ikke den har han et om var fra jeg "
    "men seg vi så kan ved ble også skal etter eller hvor hva være når over ut nå mot "
    "blir noe opp bare",
    "fi": "ja on ei se että oli hän mutta ovat kun niin myös kuin joka tai mukaan sen sekä "
    "ole jo vain nyt olisi hänen jos ne mitä minä ollut voi sitä siitä vielä tämä "
    "sitten he kanssa jälkeen eivät tämän jotka",
    "pl": "w i na z się do nie że to o jest jak za od po ale przez dla są co tym już czy "
    "tak jego oraz był być które który jako ze przy może ma lub jej tego także było "
    "tylko ich bardzo gdy bez",
    "cs": "a v se na je že o s z do i to jsou k ve pro za by ale jako po podle které který "
    "od jeho byl si tak jak nebo už při bylo aby má když může není co však jen být",
    "tr": "ve bir bu da de için ile olarak çok daha olan gibi kadar ne sonra en o var ki "
    "ama olduğu her değil mi ya ben türk göre iki kendi olduğunu ise tarafından bunu "
    "yeni",
    "vi": "và của là có được các cho trong một không những với người này để khi đã về từ "
    "đến cũng như ra tại ở sự trên vào hay đó nhiều phải bị nhưng năm sẽ rất",
    "id": "yang dan di dari untuk dengan ini itu pada tidak dalam akan adalah juga ke "
    "karena oleh ada atau mereka telah dapat sebagai saya kami bisa lebih sudah "
    "menjadi bahwa tersebut secara tetapi seperti hanya anda kita para",
    "ro": "de și în a la cu pe nu din să o care se un pentru este că mai au sau fost prin "
    "ca dar cel sunt ar el fi lui după această acest între ei cum când am foarte "
    "toate",
    "hu": "a az és hogy nem is egy ez van volt meg csak de ha már mint el még azt vagy "
    "lehet kell ki minden volna ezt én ő nagyon után így sem majd pedig",
    "ca": "de la i a el que les en per un els una del amb és no es al com dels se va més ha "
    "seva pel ser també o però són entre aquest aquesta fins quan molt sobre hi",
}
_TECHNICAL_ENGLISH = frozenset(
    "returns return set sets use used uses using value values default defaults file files "
    "path name names list data type types number string option options request requests "
    "response error errors server client user users time size model version key keys new "
    "first last next added fixed removed changed support supports enabled disabled required "
    "optional given see note example run running runs failed failure warning process system "
    "call called method function class object field table query result results text page "
    "report team meeting year years people government memory usage limit exceeded process "
    "node disk between both per via without within through during over under up down".split()
)


def detect_language(text: str) -> str:
    """ISO 639-1 code of the main language of `text`, or `"und"` where it cannot be told.

    Deterministic; looks at no more than a few thousand characters, so its cost is bounded.
    """
    sample = _sample(text)
    words = _WORD.findall(sample.lower())
    other = _ANY_OTHER_SCRIPT.findall(sample)
    n_letters = sum(map(len, words))
    if other:
        code, weight = _script_language(sample, other)
        if weight * len(other) >= _OTHER_SCRIPT_SHARE * (n_letters + (weight - 1) * len(other)):
            return code
    if len(words) < _MIN_WORDS:
        return UNDETERMINED
    return _latin_language(words, n_letters)


def _sample(text: str) -> str:
    if len(text) <= _SAMPLE_CHARACTERS:
        return text
    third = _SAMPLE_CHARACTERS // 3
    middle = (len(text) - third) // 2
    return f"{text[:third]} {text[middle : middle + third]} {text[-third:]}"


def _script_language(sample: str, letters: list[str]) -> tuple[str, int]:
    joined = "".join(letters)
    shares = {code: len(re.findall(pattern, joined)) for code, pattern in _SCRIPTS.items()}
    code = max(shares, key=lambda name: shares[name])
    if shares["ja"] * 10 >= shares["zh"] and shares["ja"] and code in ("zh", "ja"):
        code = "ja"
    elif code == "ru" and re.search("[іїєґІЇЄҐ]", sample):
        code = "uk"
    elif code == "ar" and re.search("[پچژگ]", sample):
        code = "fa"
    return code, 2 if code in _DENSE else 1


def _latin_language(words: list[str], n_letters: int) -> str:
    counts = Counter(word.replace("’", "'") for word in words)
    hits = dict.fromkeys(_FUNCTION_WORDS, 0.0)
    owners = _owners()
    for word, count in counts.items():
        for code, weight in owners.get(word, ()):
            hits[code] += weight * count
    english = hits.pop("en")
    best = max(hits, key=lambda code: hits[code])  # the first, so the more widespread, among equals
    ascii_letters = sum(len(word) * count for word, count in counts.items() if word.isascii())
    foreign = n_letters - ascii_letters > max(_FOREIGN_LETTER_SHARE * n_letters, _FOREIGN_LETTERS)
    least = _MIN_COVERAGE * len(words)
    if hits[best] >= max(2.0, least, _LEAD * english):
        return best
    if foreign and (
        english < max(_PLAIN_COVERAGE * len(words), 2 * _LEAD * hits[best])
        or sum(owners.get(word) == _ENGLISH_ONLY for word in counts) < _PLAIN_WORDS
    ):
        return UNDETERMINED
    if english >= max(2.0, least, _LEAD * hits[best]):
        return "en"
    technical = english + sum(counts[word] for word in _TECHNICAL_ENGLISH)
    if english >= 1 and technical >= max(3.0, least, 2 * hits[best]):
        return "en"
    return UNDETERMINED


@lru_cache(maxsize=1)
def _owners() -> dict[str, tuple[tuple[str, float], ...]]:
    """Function word to (language, weight): a word of several languages counts little for each."""
    profiles = {code: frozenset(words.split()) for code, words in _FUNCTION_WORDS.items()}
    vocabulary = frozenset().union(*profiles.values())
    owners: dict[str, tuple[tuple[str, float], ...]] = {}
    for word in vocabulary:
        codes = [code for code, profile in profiles.items() if word in profile]
        owners[word] = tuple((code, 1.0 if len(codes) == 1 else 0.6) for code in codes)
    return owners
