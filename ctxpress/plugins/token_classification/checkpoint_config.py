"""Options that name the model, and those of the mode `llmlingua2`, beside those of `native`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ctxpress.plugins.token_classification.llmlingua2.options import LLMLingua2Options

__all__ = ["LLMLingua2StageOptions", "ModelOptions", "check_belonging"]

Text = Annotated[str, Field(min_length=1)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2}$")]


_FILTERING = frozenset(
    {"target_context", "context_level_rate", "context_level_target_token", "force_context_ids"}
)


class ModelOptions(BaseModel):
    """Which algorithm, and which model scores for it.

    `mode`: `native` deletes from the original text; `llmlingua2` writes what the library
    `llmlingua` would. `backend`: `bundled`, or `huggingface`, which the others belong to. `model`:
    a name on the Hugging Face hub, or a folder. `revision`: its branch, tag or commit.
    `device`: `auto` is a CUDA GPU where there is one. `languages`: ISO 639-1 codes of what the
    model may shorten; none means any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["native", "llmlingua2"] = "native"
    backend: Literal["bundled", "huggingface"] = "bundled"
    model: Text | None = None
    revision: Text | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    languages: Annotated[tuple[Language, ...], Field(min_length=1)] | None = None


class LLMLingua2StageOptions(BaseModel):
    """Options of the library `llmlingua` that `mode: llmlingua2` takes, in its own terms.

    `rate`: fraction to keep; `target_token`: cl100k_base tokens to keep in a block instead.
    `context_filter` (`use_context_level_filter`): of several documents in a block, first drop the
    worst, as `target_context`, `context_level_rate` or `context_level_target_token` say, never
    those numbered in `force_context_ids`. `token_to_word`: a word has the mean of its tokens'
    probabilities, or the first one's. `chunk_end_tokens`: where 510 tokens may be cut.
    `use_token_level_filter`: false keeps all words of the documents that remain.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    target_token: Annotated[int, Field(ge=1)] | None = None
    context_filter: bool = False
    target_context: Annotated[int, Field(ge=1)] | None = None
    context_level_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    context_level_target_token: Annotated[int, Field(ge=1)] | None = None
    force_context_ids: tuple[Annotated[int, Field(ge=0)], ...] = ()
    token_to_word: Literal["mean", "first"] = "mean"
    chunk_end_tokens: tuple[Text, ...] = (".", "\n")
    use_token_level_filter: bool = True

    @model_validator(mode="after")
    def _documents_are_chosen_by_the_filter(self) -> LLMLingua2StageOptions:
        wrong = sorted(self.model_fields_set & _FILTERING)
        if wrong and not self.context_filter:
            raise ValueError(f"{wrong[0]} has no effect without context_filter: true")
        return self

    def library_options(
        self, *, force_tokens: tuple[str, ...], force_reserve_digit: bool, drop_consecutive: bool
    ) -> LLMLingua2Options:
        """The same for the algorithm, with the options that `native` has, too."""
        return LLMLingua2Options(
            rate=self.rate,
            target_token=-1 if self.target_token is None else self.target_token,
            use_context_level_filter=self.context_filter,
            use_token_level_filter=self.use_token_level_filter,
            force_context_ids=self.force_context_ids,
            target_context=-1 if self.target_context is None else self.target_context,
            context_level_rate=self.context_level_rate,
            context_level_target_token=-1
            if self.context_level_target_token is None
            else self.context_level_target_token,
            token_to_word=self.token_to_word,
            force_tokens=force_tokens,
            force_reserve_digit=force_reserve_digit,
            drop_consecutive=drop_consecutive,
            chunk_end_tokens=self.chunk_end_tokens,
        )


def check_belonging(
    given: frozenset[str], *, mode: str, backend: str, model: str | None, native: frozenset[str]
) -> None:
    """Refuse options that the mode or the backend has no use for.

    `given` are the names that the configuration spells out, `native` those of mode native alone.

    :raises ValueError: naming the option and what it belongs to.
    """
    huggingface = frozenset(ModelOptions.model_fields) - {"mode", "backend"}
    belongs: list[tuple[frozenset[str], bool, str]] = [
        (frozenset(LLMLingua2StageOptions.model_fields), mode == "llmlingua2", "mode: llmlingua2"),
        (native, mode == "native", "mode: native"),
        (huggingface, backend == "huggingface", "backend: huggingface"),
    ]  # fmt: skip
    if mode == "llmlingua2" and backend != "huggingface":
        raise ValueError("mode: llmlingua2 needs backend: huggingface and a model")
    for names, suits, owner in belongs:
        wrong = sorted(given & names)
        if wrong and not suits:
            raise ValueError(f"{wrong[0]} is an option of {owner}")
    if backend == "huggingface" and model is None:
        raise ValueError(
            "backend: huggingface needs model, a folder or a name such as "
            "microsoft/llmlingua-2-bert-base-multilingual-cased-meetingbank"
        )
