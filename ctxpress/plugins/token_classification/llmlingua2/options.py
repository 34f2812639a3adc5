"""What a call can ask for, in the terms and with the defaults of the library."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LLMLingua2Options", "LLMLingua2Result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMLingua2Options:
    """Arguments of `PromptCompressor.compress_prompt` that matter to LLMLingua-2, same defaults.

    `rate`: fraction of a chunk's tokens to keep; `target_token`: tokens to keep instead, -1 for
    none. `use_context_level_filter`: of two or more contexts, drop the worst first: so that
    `target_context` contexts, the fraction `context_level_rate`, or about
    `context_level_target_token` tokens remain; `force_context_ids` are never dropped.
    `use_token_level_filter`: then delete words. `token_to_word`: a word's probability is the
    `"mean"` over its tokens or the `"first"` one's. `force_tokens` are given probability 1, with
    `force_reserve_digit` tokens with digits, too; with `drop_consecutive`, of equal force tokens
    in a row one remains. A chunk of 510 tokens ends at one of `chunk_end_tokens` where it can.
    """

    rate: float = 0.5
    target_token: float = -1
    use_context_level_filter: bool = True
    use_token_level_filter: bool = True
    force_context_ids: tuple[int, ...] = ()
    target_context: int = -1
    context_level_rate: float = 1.0
    context_level_target_token: float = -1
    token_to_word: str = "mean"
    force_tokens: tuple[str, ...] = ()
    force_reserve_digit: bool = False
    drop_consecutive: bool = False
    chunk_end_tokens: tuple[str, ...] = (".", "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMLingua2Result:
    """What remains. `prompts[i]` is what is left of the context number `contexts[i]`.

    `origin_tokens` and `compressed_tokens` are cl100k_base tokens, joiners not counted.
    """

    prompts: tuple[str, ...]
    contexts: tuple[int, ...]
    origin_tokens: int
    compressed_tokens: int

    @property
    def prompt(self) -> str:
        """All prompts, joined as the library joins them."""
        return "\n\n".join(self.prompts)
