"""From logits to a token: penalties, temperature, top-k and top-p, seeds, log probabilities."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ctxpress.errors import ConfigError

__all__ = ["SampledToken", "Sampler", "SamplingOptions"]

_MOST_TOP_LOGPROBS = 20  # as OpenAI's API


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """How tokens are chosen, in the terms of OpenAI's API.

    ``temperature`` 0 takes the most probable token. ``top_k`` 0 sets no bound. ``seed`` None draws
    one. ``top_logprobs``: of how many tokens the log probabilities are told; None tells none.

    :raises ConfigError: a value is out of range; names it and the range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        _within("temperature", self.temperature, 0, 2)
        _within("top_p", self.top_p, 0, 1)
        _within("top_k", self.top_k, 0, 2**31)
        _within("frequency_penalty", self.frequency_penalty, -2, 2)
        _within("presence_penalty", self.presence_penalty, -2, 2)
        if self.top_logprobs is not None:
            _within("top_logprobs", self.top_logprobs, 0, _MOST_TOP_LOGPROBS)
        for bias in self.logit_bias.values():
            _within("logit_bias", bias, -100, 100)


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A token, its log probability, and those of the most probable ones, best first.

    Probabilities are the model's own, before temperature and bounds, as OpenAI's API tells them;
    where none were asked for, ``logprob`` is 0 and ``top`` empty.
    """

    token_id: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Chooses the tokens of one answer; equal seeds choose alike. For one thread."""

    def __init__(self, options: SamplingOptions) -> None:
        self._options = options
        self._generator = torch.Generator()
        if options.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(options.seed % 2**63)
        self._counts: Counter[int] = Counter()

    def begin_behind(self, token_ids: Sequence[int]) -> None:
        """These tokens have been chosen already: penalties count them."""
        self._counts.update(token_ids)

    def sample(self, logits: torch.Tensor) -> SampledToken:
        """Choose from ``logits`` ``(vocabulary,)``.

        :raises ValueError: they hold NaN.
        """
        options = self._options
        logits = self._adjusted(logits.detach().to("cpu", torch.float32))
        if bool(torch.isnan(logits).any()):
            raise ValueError("the model's logits hold NaN")
        token = int(logits.argmax()) if options.temperature == 0 else self._drawn(logits)
        self._counts[token] += 1
        if options.top_logprobs is None:
            return SampledToken(token)
        logprobs = torch.log_softmax(logits, dim=-1)
        most = min(options.top_logprobs, logprobs.numel())
        best = torch.topk(logprobs, most)
        top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        return SampledToken(token, float(logprobs[token]), top)

    def _adjusted(self, logits: torch.Tensor) -> torch.Tensor:
        options = self._options
        if options.logit_bias:
            logits = logits.clone()
            for token, bias in options.logit_bias.items():
                if 0 <= token < logits.numel():
                    logits[token] += bias
        if self._counts and (options.frequency_penalty or options.presence_penalty):
            logits = logits.clone()
            for token, count in self._counts.items():
                logits[token] -= count * options.frequency_penalty + options.presence_penalty
        return logits

    def _drawn(self, logits: torch.Tensor) -> int:
        options = self._options
        scaled = logits / options.temperature
        order = torch.argsort(scaled, descending=True, stable=True)
        if options.top_k:
            order = order[: options.top_k]
        probabilities = torch.softmax(scaled[order], dim=-1)
        if options.top_p < 1:
            before = probabilities.cumsum(0) - probabilities
            kept = max(1, int((before < options.top_p).sum()))
            order, probabilities = order[:kept], probabilities[:kept]
        chosen = torch.multinomial(probabilities, 1, generator=self._generator)
        return int(order[chosen])


def _within(name: str, value: float, least: float, most: float) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise ConfigError(f"{name} must be {least} to {most}, not {value}")
