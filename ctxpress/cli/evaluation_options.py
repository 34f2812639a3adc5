"""Reads what ``ctxpress eval compression`` was asked for; every mistake is one line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxpress.errors import ConfigError
from ctxpress.nearest import did_you_mean

if TYPE_CHECKING:
    from ctxpress.evaluation.runner import QuestionView
    from ctxpress.sdk import Pipeline

__all__ = ["Request", "parse_names", "parse_ratios", "parse_sets", "parse_stages"]

DEFAULT_STAGE = "token_classification"
_VIEWS: Mapping[str, tuple[QuestionView, ...]] = {
    "hidden": ("hidden",),
    "shown": ("shown",),
    "both": ("hidden", "shown"),
}
_SET_OPTIONS: Mapping[str, Mapping[str, Any]] = {"gsm8k": {"force_reserve_digit": True}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to evaluate on what.

    :raises ConfigError: options that exclude each other, or an unknown word for the question.
    """

    folder: Path
    sets: tuple[str, ...]
    ratios: tuple[float, ...]
    question: str
    stages: tuple[Mapping[str, Any], ...] = ()
    config: Path | None = None
    pipeline: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.question not in _VIEWS:
            raise ConfigError(
                f"--question: shown, hidden or both, not {self.question!r}"
                f"{did_you_mean(self.question, _VIEWS)}"
            )
        if self.stages and (self.config or self.pipeline):
            raise ConfigError("give --stage or --pipeline, not both")
        if self.config is not None and self.pipeline is None:
            raise ConfigError(f"name the pipeline of {self.config}: --pipeline NAME")

    @property
    def views(self) -> tuple[QuestionView, ...]:
        """How the pipeline sees the question."""
        return _VIEWS[self.question]

    @property
    def label(self) -> str:
        """The pipeline as tables call it."""
        if self.pipeline is not None:
            return self.pipeline
        return " + ".join(str(stage["use"]) for stage in self._stages)

    @property
    def _stages(self) -> tuple[Mapping[str, Any], ...]:
        return self.stages or ({"use": DEFAULT_STAGE},)

    def opener(self, name: str) -> Callable[[], Pipeline]:
        """What opens the pipeline for the set `name`, as often as it is called.

        :raises ConfigError: the configuration file is wrong.
        """
        from ctxpress.config import Config
        from ctxpress.config_file import load_config_and_plugins
        from ctxpress.manager import create_plugin_manager
        from ctxpress.sdk import Pipeline

        if self.pipeline is None:
            stages = [self._with_set_options(stage, name) for stage in self._stages]
            return lambda: Pipeline.from_stages(*stages, strict=True)
        if self.config is not None:
            config, manager = load_config_and_plugins(self.config)
        else:
            config, manager = Config(version=1), create_plugin_manager()
        # What is measured must neither come from the tenants' store nor end up in it.
        config = config.model_copy(update={"store": "memory://"})
        wanted = self.pipeline
        return lambda: Pipeline(wanted, config, manager=manager)

    def _with_set_options(self, stage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        if stage["use"] != DEFAULT_STAGE:
            return stage
        return {**_SET_OPTIONS.get(name, {}), **stage}


def parse_sets(text: str) -> tuple[str, ...]:
    """``nq,gsm8k`` as names.

    :raises ConfigError: one is unknown.
    """
    from ctxpress.evaluation.datasets import SETS

    return parse_names("--set", text, SETS)


def parse_names(option: str, text: str, known: Collection[str]) -> tuple[str, ...]:
    """Names with commas between, each once.

    :raises ConfigError: one is unknown, or there is none.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in known:
            raise ConfigError(f"{option}: nothing is called {name!r}{did_you_mean(name, known)}")
    if not names:
        raise ConfigError(f"{option}: name at least one of {', '.join(known)}")
    return tuple(dict.fromkeys(names))


def parse_ratios(text: str) -> tuple[float, ...]:
    """``0.5,1/3`` as numbers.

    :raises ConfigError: one is no number in (0, 1].
    """
    ratios = []
    for part in text.split(","):
        try:
            ratio = float(Fraction(part.strip()))
        except (ValueError, ZeroDivisionError, OverflowError):
            ratio = 0.0
        if not 0 < ratio <= 1:
            raise ConfigError(f"--ratios: numbers in (0, 1] are needed, not {part.strip()!r}")
        ratios.append(ratio)
    return tuple(dict.fromkeys(ratios))


def parse_stages(given: Sequence[str]) -> tuple[Mapping[str, Any], ...]:
    """Stages as mappings, from ``{"use": "dedupe"}`` or ``use=dedupe,key=value``.

    ``use`` is ``token_classification`` where it is left out.

    :raises ConfigError: one is neither.
    """
    import yaml

    stages = []
    for text in given:
        try:
            if text.lstrip().startswith("{"):
                options = yaml.safe_load(text)  # JSON is YAML
            else:
                pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
                if not all(sign for _, sign, _ in pairs):
                    raise ConfigError(f"--stage: JSON or key=value,… is needed, not {text!r}")
                options = {key.strip(): yaml.safe_load(value) for key, _, value in pairs}
        except yaml.YAMLError:
            raise ConfigError(f"--stage: JSON or key=value,… is needed, not {text!r}") from None
        if not isinstance(options, dict) or not all(isinstance(key, str) for key in options):
            raise ConfigError(f"--stage: an object is needed, not {text!r}")
        stages.append({"use": DEFAULT_STAGE, **options})
    return tuple(stages)
