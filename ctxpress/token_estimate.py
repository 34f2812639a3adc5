"""Token counts without the model's tokenizer: features of the text times measured coefficients.

Written by ``python -m training.token_calibration``, which says how. Mean absolute error of a
held-out chunk (250 to 4,000 characters), in per cent:

==================================  ======  ======  ======  ======
text                                o200k   cl100k  llama   claude
==================================  ======  ======  ======  ======
documentation                         3.7     4.0     4.0     4.5
encyclopedia                          3.5     3.4     3.4     4.5
meeting transcripts                   3.0     2.3     2.5     2.4
word problems                         4.3     4.1     4.0     6.3
web passages                          3.2     3.2     3.2     4.2
Markdown and reStructuredText         4.1     4.0     4.1     3.6
Python                                3.6     3.9     3.9     4.1
JavaScript                            6.6     7.4     7.4     4.9
C headers                             5.1     5.4     5.4     3.8
HTML, CSS                             6.8     6.8     6.8     4.5
JSON                                  4.0     4.4     4.3     2.6
JSON, indented                        2.7     4.4     4.4     2.2
CSV                                   1.3     1.7     1.7     1.4
log lines                             5.9     6.1     6.1     5.5
UUIDs and hashes                      1.2     1.9     2.0     1.0
base64                                9.8    11.8    11.7     6.9
URLs                                  1.5     2.3     2.6     3.4
identifiers                           9.3     9.4     9.7    10.2
tables                                6.3     6.7     6.6     8.2
French                                9.4     7.6     6.8     4.0
German                               12.9    10.2    10.2     9.5
Spanish                              13.0    13.5    10.4     6.5
Finnish                              16.4    19.4    23.2    13.7
Turkish                              13.8    10.2    15.5     4.9
Vietnamese                           11.0    13.9    16.1     6.3
Russian                              17.4    16.3    13.8    12.0
Ukrainian                            16.9    18.7    10.7     8.1
Greek                                 9.7     2.8     8.1     1.8
Arabic                                9.7     3.4     4.4     4.2
Hindi                                 4.9     1.8     1.7     1.7
Thai                                  4.7     3.6     3.8     1.2
Chinese                               8.4     6.7     6.7     5.9
Japanese                              7.4     6.4     4.9     7.8
Korean                                5.5     5.3     4.8     2.0
==================================  ======  ======  ======  ======

The first five rows are sources of which nothing was used in the fit; of the others, one half of
the chunks was fitted and the other measured. Languages are samples of user interface strings,
which swing more than running text does. ``llama`` is Llama 3;
``claude`` is the last tokenizer that Anthropic published (Claude 2): newer ones make more tokens
of the same text, by how much was not measured. Ratios before/after compression suffer less.

Deleting a word never raises an estimate by more than rounding, save where what is left and right
of it grows together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ctxpress.token_features import FEATURES, TextFeatures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["COEFFICIENTS", "estimate_tokens", "weights_of"]


def weights_of(family: str) -> NDArray[np.float64]:
    """The coefficients of ``family``, one a feature."""
    import numpy as np

    return np.array([COEFFICIENTS[family].get(feature, 0.0) for feature in FEATURES])


def estimate_tokens(text: str, features: TextFeatures, weights: NDArray[np.float64]) -> int:
    """About how many tokens ``text`` has: 0 for none, else at least 1."""
    if not text:
        return 0
    return max(1, int(features.count(text) @ weights + 0.5))


COEFFICIENTS: Mapping[str, Mapping[str, float]] = {
    "o200k_base": {
        "latin_words": 1.061,
        "joined_words": 0.573,
        "latin_pieces": 0.552,
        "capitals_inside": 0.650,
        "capitals_in_a_row": 0.036,
        "digit_groups": 1.351,
        "numbers_after_space": 1.005,
        "punctuation_runs": 0.710,
        "punctuation_changes": 0.335,
        "punctuation_repeats": 0.071,
        "line_ends": 0.653,
        "indents": 0.633,
        "wide_spaces": 0.400,
        "white_characters": 0.013,
        "other_characters": 0.418,
        "sign_characters": 0.823,
        "greek_characters": 0.480,
        "cyrillic_characters": 0.279,
        "hebrew_characters": 0.496,
        "arabic_characters": 0.347,
        "devanagari_characters": 0.458,
        "indic_characters": 0.462,
        "thai_characters": 0.419,
        "symbol_characters": 0.813,
        "kana_characters": 0.704,
        "han_characters": 0.707,
        "hangul_characters": 0.697,
        "wide_sign_characters": 1.519,
        "astral_characters": 2.034,
        "cyrillic_words": 0.325,
        "arabic_words": 0.203,
        "other_words": 0.302,
    },
    "cl100k_base": {
        "latin_words": 1.061,
        "joined_words": 0.551,
        "latin_pieces": 0.658,
        "capitals_inside": 0.523,
        "capitals_in_a_row": 0.028,
        "digit_groups": 1.372,
        "numbers_after_space": 1.028,
        "punctuation_runs": 0.685,
        "punctuation_changes": 0.322,
        "punctuation_repeats": 0.075,
        "line_ends": 0.607,
        "indents": 0.664,
        "wide_spaces": 0.400,
        "white_characters": 0.011,
        "other_characters": 1.825,
        "sign_characters": 0.926,
        "accented_characters": 0.668,
        "greek_characters": 1.101,
        "cyrillic_characters": 0.415,
        "hebrew_characters": 1.203,
        "arabic_characters": 0.729,
        "devanagari_characters": 1.246,
        "indic_characters": 1.476,
        "thai_characters": 0.986,
        "symbol_characters": 0.831,
        "kana_characters": 1.138,
        "han_characters": 0.990,
        "hangul_characters": 1.063,
        "wide_sign_characters": 0.241,
        "astral_characters": 2.618,
        "cyrillic_words": 0.670,
        "arabic_words": 0.739,
        "devanagari_words": 0.059,
        "indic_words": 0.122,
        "hangul_words": 0.082,
        "other_words": 1.932,
    },
    "llama": {
        "latin_words": 1.057,
        "joined_words": 0.545,
        "latin_pieces": 0.674,
        "capitals_inside": 0.484,
        "capitals_in_a_row": 0.027,
        "digit_groups": 1.375,
        "numbers_after_space": 1.032,
        "punctuation_runs": 0.680,
        "punctuation_changes": 0.327,
        "punctuation_repeats": 0.074,
        "line_ends": 0.631,
        "indents": 0.655,
        "wide_spaces": 0.400,
        "white_characters": 0.011,
        "other_characters": 1.747,
        "sign_characters": 1.196,
        "greek_characters": 0.492,
        "cyrillic_characters": 0.347,
        "hebrew_characters": 1.200,
        "arabic_characters": 0.484,
        "devanagari_characters": 0.602,
        "indic_characters": 1.482,
        "thai_characters": 0.517,
        "symbol_characters": 0.807,
        "kana_characters": 0.681,
        "han_characters": 0.776,
        "hangul_characters": 0.772,
        "wide_sign_characters": 0.834,
        "astral_characters": 2.579,
        "cyrillic_words": 0.177,
        "devanagari_words": 0.191,
        "indic_words": 0.052,
        "other_words": 1.658,
    },
    "claude": {
        "latin_words": 1.037,
        "joined_words": 1.105,
        "latin_pieces": 0.612,
        "capitals_inside": 0.500,
        "capitals_in_a_row": 0.067,
        "digit_groups": 0.984,
        "numbers_after_space": 0.847,
        "punctuation_runs": 0.836,
        "punctuation_changes": 0.121,
        "punctuation_repeats": 0.078,
        "line_ends": 0.900,
        "wide_spaces": 0.400,
        "white_characters": 0.012,
        "other_characters": 1.364,
        "sign_characters": 0.824,
        "accented_characters": 1.657,
        "greek_characters": 1.311,
        "cyrillic_characters": 0.443,
        "hebrew_characters": 1.052,
        "arabic_characters": 1.036,
        "devanagari_characters": 1.395,
        "indic_characters": 1.920,
        "thai_characters": 1.819,
        "symbol_characters": 0.971,
        "kana_characters": 1.162,
        "han_characters": 0.929,
        "hangul_characters": 1.237,
        "wide_sign_characters": 0.079,
        "astral_characters": 2.855,
        "greek_words": 0.129,
        "cyrillic_words": 1.032,
        "hebrew_words": 0.097,
        "arabic_words": 0.428,
        "indic_words": 0.834,
        "hangul_words": 0.243,
        "other_words": 1.966,
    },
}
