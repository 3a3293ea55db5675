"""The file `evaluation.json`: every evaluation episode of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dqnkit.evaluation.episodes import Episodes, Evaluation

FILE_NAME = "evaluation.json"
"""Path of the document among the artifacts of a run."""


@dataclass(frozen=True, kw_only=True)
class FinalEpisodes:
    """Episodes of the best policy, played after training or by a later evaluation of the run."""

    episodes: Episodes
    """The episodes; empty if the file does not list them."""
    iteration: int | None = None
    """Training iterations of the policy; None if the file does not say."""
    env_steps: int | None = None
    """Environment steps of the policy; None if the file does not say."""
    seconds: float | None = None
    """Seconds that a later evaluation took; None for the episodes played after training."""
    seed: int | None = None
    """Seed of a later evaluation; None for the episodes played after training."""


@dataclass(frozen=True, kw_only=True)
class BaselineEpisodes:
    """Episodes of uniformly random actions, played from the same initial states."""

    episodes: Episodes
    seconds: float | None = None
    """Seconds that the episodes took; None if the file does not say."""


@dataclass(frozen=True, kw_only=True)
class EvaluationDocument:
    """Contents of `evaluation.json`; a part that is missing in the file is empty or None."""

    evaluations: tuple[Evaluation, ...] = ()
    """Evaluations during training, the earliest first."""
    best: Evaluation | None = None
    """The evaluation by which the best policy was selected."""
    final: FinalEpisodes | None = None
    """Episodes of the best policy that are independent of its selection."""
    random: BaselineEpisodes | None = None
    """The baseline of a later evaluation."""

    def to_json(self) -> str:
        """Return the text of the file, without the parts that are empty or None."""
        document: dict[str, Any] = {}
        if self.evaluations:
            document["evaluations"] = [each.as_dict() for each in self.evaluations]
        if self.best is not None:
            document["best"] = self.best.as_dict()
        if self.final is not None:
            final = self.final
            counters = {"iteration": final.iteration, "env_steps": final.env_steps}
            later = {"seconds": final.seconds, "seed": final.seed}
            document["final"] = counters | _with_interval(final.episodes) | _without_none(later)
        if self.random is not None:
            seconds = {"seconds": self.random.seconds}
            document["random"] = _with_interval(self.random.episodes) | _without_none(seconds)
        return json.dumps(document)

    @classmethod
    def from_json(cls, text: str) -> EvaluationDocument:
        """Parse the text of the file.

        An evaluation needs `env_steps` and `returns`; without the other keys it has no lengths and
        iteration 0. All keys of `final` and `random` are optional. Intervals are not read: they
        follow from the returns.

        Raises:
          ValueError: If the text is not JSON, such as that of a file cut short, or has another
            structure.
        """
        document = json.loads(text)
        try:
            best, final, random = (document.get(key) for key in ("best", "final", "random"))
            return cls(
                evaluations=tuple(map(_evaluation, document.get("evaluations") or ())),
                best=_evaluation(best) if best else None,
                final=_final(final) if final else None,
                random=_baseline(random) if random else None,
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(
                f"the text is JSON, but not that of {FILE_NAME}: {type(error).__name__}: {error}"
            ) from error


def _with_interval(episodes: Episodes) -> dict[str, Any]:
    interval = {"iqm_interval": list(episodes.interval)} if episodes.interval else {}
    return {
        "returns": list(episodes.returns),
        "lengths": list(episodes.lengths),
        **interval,
    }


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _evaluation(values: dict[str, Any]) -> Evaluation:
    return Evaluation(
        iteration=int(values.get("iteration") or 0),
        env_steps=int(values["env_steps"]),
        returns=_floats(values["returns"]),
        lengths=_lengths(values),
    )


def _final(values: dict[str, Any]) -> FinalEpisodes:
    return FinalEpisodes(
        episodes=_episodes(values),
        iteration=values.get("iteration"),
        env_steps=values.get("env_steps"),
        seconds=values.get("seconds"),
        seed=values.get("seed"),
    )


def _baseline(values: dict[str, Any]) -> BaselineEpisodes:
    return BaselineEpisodes(episodes=_episodes(values), seconds=values.get("seconds"))


def _episodes(values: dict[str, Any]) -> Episodes:
    return Episodes(returns=_floats(values.get("returns") or ()), lengths=_lengths(values))


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _lengths(values: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(value) for value in values.get("lengths") or ())
