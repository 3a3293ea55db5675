"""Evaluation of a saved policy on episodes that training and selection have not used."""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from typing_extensions import override

from dqnkit._system.files import kept_working_directory
from dqnkit.config.random_streams import later_evaluation_keys
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ArgumentError, TrackingError
from dqnkit.evaluation import plots
from dqnkit.evaluation.aggregates import Estimate, difference
from dqnkit.evaluation.document import BaselineEpisodes, EvaluationDocument, FinalEpisodes
from dqnkit.evaluation.episodes import Episodes, markdown_summary
from dqnkit.events import EpisodesPlayed, Listener, Warned, ignore
from dqnkit.runs.metrics import episode_metrics
from dqnkit.tracking.location import AUTO, locate_optional_store
from dqnkit.tracking.names import FINAL, FINAL_RANDOM, Artifact, Metric, Tag
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.references import PolicySource, find_policy
from dqnkit.tracking.store import RunStore

if TYPE_CHECKING:  # Matplotlib takes half a second; policies load TensorFlow
    from matplotlib.figure import Figure

    from dqnkit.agents.policies import Policy

MAX_EPISODES = 10_000
"""Maximum number of episodes, at which the bootstrap takes seconds."""
_HOST_BATCH = 16
"""Number of environments outside the graph; constant, so that all policies meet the same states."""
_BASELINE = (f"{FINAL_RANDOM}/", Metric.FINAL_DIFFERENCE)
"""Prefixes of the names of metrics that a baseline logs."""
_NOTE = "\n\n**Evaluated again**"
"""Beginning of the part of a run's description that holds later evaluations."""


@dataclass(frozen=True, kw_only=True)
class TimedEpisodes(Episodes):
    """Episodes, and the time that they took."""

    seconds: float
    """Seconds of playing alone, without making environments and compiling functions."""

    @override
    def statistics(self) -> dict[str, float | None]:
        lengths = {
            "length_mean": float(np.mean(self.lengths)),
            "length_min": min(self.lengths),
            "length_max": max(self.lengths),
        }
        return super().statistics() | lengths | {"seconds": self.seconds}


@dataclass(frozen=True)
class PolicyEvaluation:
    """Evaluation of a policy, perhaps with a baseline."""

    label: str
    """Name of the run, or the reference to a policy whose run is not known."""
    env_id: str
    seed: int
    trained: TimedEpisodes
    random: TimedEpisodes | None
    """Episodes of uniformly random actions from the same initial states."""
    difference: Estimate | None
    """Interquartile mean of the trained policy minus that of the random one."""
    run: RecordedRun | None
    """Run that records it; None for the folder of a policy, whose run is not known."""
    is_recorded: bool = False
    """True if the whole evaluation was added to the run."""
    problems: list[str] = field(default_factory=list)
    """Descriptions of what could not be recorded, and of what makes the score less certain."""

    @property
    def samples(self) -> dict[str, TimedEpisodes]:
        """Episodes by name: `trained`, and `random` if there is a baseline."""
        return {"trained": self.trained} | ({"random": self.random} if self.random else {})

    def make_figure(self) -> Figure:
        """Make a Matplotlib figure: the histogram of the returns."""
        title = f"{self.label} ({self.env_id})"
        return plots.make_returns_histogram_figure(self.samples, title)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        return {
            "policy": self.label,
            "run_id": self.run.id if self.run else None,
            "env": self.env_id,
            "seed": self.seed,
            "trained": self.trained.statistics(),
            "random": self.random.statistics() if self.random else None,
            "difference": self.difference._asdict() if self.difference else None,
            "returns": list(self.trained.returns),
            "problems": self.problems,
        }


def evaluate(
    run: str,
    episodes: int = 100,
    *,
    seed: int = 0,
    baseline: Literal["random"] | None = None,
    tracking_uri: str | None = AUTO,
    listener: Listener = ignore,
) -> PolicyEvaluation:
    """Evaluate a saved policy on greedy episodes, and add its score to the run that trained it.

    Args:
      run: Reference to the run (`dqnkit.tracking.references.FORMS`), or the folder of a policy.
      episodes: Number of episodes.
      seed: Seed of the episodes. The same seed gives the same initial states for any policy that
        is evaluated in the same environment and kind of loop.
      baseline: `random` also evaluates a uniformly random policy from the same initial states.
      tracking_uri: URI of the store; None records nothing, and needs the folder of a policy.
      listener: Receives `EpisodesPlayed` after each batch of episodes, and `Warned`.

    Raises:
      ConfigError: If the reference or a number is wrong, or the run has no policy.
      UnsupportedEnvironmentError: If the environment is not installed.
      PolicyError: If files of the policy are damaged.
      TrackingError: If the store cannot be read.
    """
    if not 1 <= episodes <= MAX_EPISODES:
        problem = f"expected a number from 1 to {MAX_EPISODES:,}"
        raise ArgumentError("episodes", episodes, problem)
    if baseline not in {None, "random"}:
        raise ArgumentError("baseline", baseline, "expected random")
    if not 0 <= seed < 2**63:
        raise ArgumentError("seed", seed, "expected a number from 0 to 2**63 - 1")
    location = locate_optional_store(tracking_uri)
    store = RunStore(location) if location else None
    with kept_working_directory(), tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
        source = find_policy(store, run, Path(scratch))
        evaluation = _evaluate(source, episodes, seed, baseline, listener)
    if source.run is None or store is None:
        return evaluation
    failures = _record(store, source.run, evaluation)
    problems = failures + _fewer_episodes(source.run, episodes)
    for problem in problems:
        listener(Warned(problem))
    return replace(evaluation, is_recorded=not failures, problems=problems)


def _evaluate(
    source: PolicySource,
    episodes: int,
    seed: int,
    baseline: Literal["random"] | None,
    listener: Listener,
) -> PolicyEvaluation:
    config, spec = resolve(source.folder.config)
    from dqnkit.agents.policies import RandomPolicy, SavedPolicy  # imports TensorFlow: seconds

    policies: dict[str, Policy] = {"trained": SavedPolicy(source.folder.saved_model, spec)}
    if baseline is not None:
        policies["random"] = RandomPolicy(spec)
    samples = {
        name: _play(config, name, policy, episodes, seed, listener)
        for name, policy in policies.items()
    }
    trained, random = samples["trained"], samples.get("random")
    gap = difference(np.asarray(trained.returns), np.asarray(random.returns)) if random else None
    return PolicyEvaluation(source.label, spec.id, seed, trained, random, gap, source.run)


def _play(
    config: Config, name: str, policy: Policy, episodes: int, seed: int, listener: Listener
) -> TimedEpisodes:
    from dqnkit.evaluation.factory import make_evaluator  # imports TensorFlow

    batch = episodes if config.training.loop == "graph" else min(episodes, _HOST_BATCH)
    with ExitStack() as stack:
        evaluator = make_evaluator(config, policy, batch, later_evaluation_keys(seed))
        stack.callback(evaluator.close)
        evaluator.prepare()
        start = time.perf_counter()
        played = []
        for counter in range(math.ceil(episodes / batch)):
            played.append(evaluator.play(counter))
            done = min(episodes, batch * (counter + 1))
            listener(EpisodesPlayed((name,), done, episodes))
        seconds = time.perf_counter() - start
    returns, lengths = (np.concatenate(each)[:episodes] for each in zip(*played, strict=True))
    return TimedEpisodes(
        returns=tuple(returns.tolist()), lengths=tuple(lengths.tolist()), seconds=seconds
    )


def _record(store: RunStore, run: RecordedRun, evaluation: PolicyEvaluation) -> list[str]:
    """Replace the run's evaluation; return descriptions of what failed."""
    values = _without_stale_interval(episode_metrics(FINAL, evaluation.trained), run)
    values[Metric.FINAL_SECONDS] = evaluation.trained.seconds
    if evaluation.random is not None and evaluation.difference is not None:
        values |= episode_metrics(FINAL_RANDOM, evaluation.random)
        names = ("difference", "difference_ci_low", "difference_ci_high")
        values |= {f"{FINAL}/{n}": v for n, v in zip(names, evaluation.difference, strict=True)}
    else:  # metrics of an earlier baseline do not belong to these episodes
        stale = [name for name in run.metrics if name.startswith(_BASELINE)]
        values |= dict.fromkeys(stale, math.nan)
    note = run.tags.get(Tag.NOTE, "").partition(_NOTE)[0] + _note(evaluation)
    with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
        files = Path(scratch) / "files"
        (files / Artifact.RETURNS).parent.mkdir(parents=True)
        plots.save_figure(evaluation.make_figure(), files / Artifact.RETURNS)
        problems = []
        try:
            document = _document(store, run, evaluation, Path(scratch)).to_json()
            (files / Artifact.EVALUATION).write_text(document, encoding="utf-8")
        except TrackingError as error:  # keep the file that training wrote
            problems.append(f"evaluation.json stays as it was: {error}")
        return [*problems, *store.add(run, metrics=values, files=files, note=note)]


def _without_stale_interval(values: dict[str, float], run: RecordedRun) -> dict[str, float]:
    """Return the metrics, with NaN for an interval that a single episode does not have."""
    names = (Metric.FINAL_LOW, Metric.FINAL_HIGH)
    return {name: math.nan for name in names if name in run.metrics} | values


def _fewer_episodes(run: RecordedRun, episodes: int) -> list[str]:
    """Return a warning if the run's score was over more episodes before."""
    before = run.metrics.get(Metric.FINAL_EPISODES, 0)
    if episodes >= before:
        return []
    return [
        f"the run's score is now based on {episodes:,} episodes instead of {before:,.0f}; "
        f"evaluate {before:,.0f} or more for the same precision"
    ]


def _document(
    store: RunStore, run: RecordedRun, evaluation: PolicyEvaluation, scratch: Path
) -> EvaluationDocument:
    """Return the run's `evaluation.json` with its final episodes replaced.

    Raises:
      TrackingError: If the file exists and cannot be read.
    """
    document = EvaluationDocument()
    if Artifact.EVALUATION in store.artifacts(run):
        path = store.fetch(run, Artifact.EVALUATION, scratch)
        with contextlib.suppress(ValueError):  # damaged: there is nothing to keep
            document = EvaluationDocument.from_json(path.read_text("utf-8"))
    trained, random, before = evaluation.trained, evaluation.random, document.final
    return replace(
        document,
        final=FinalEpisodes(
            episodes=trained,
            iteration=before.iteration if before else None,
            env_steps=before.env_steps if before else None,
            seconds=trained.seconds,
            seed=evaluation.seed,
        ),
        random=BaselineEpisodes(episodes=random, seconds=random.seconds) if random else None,
    )


def _note(evaluation: PolicyEvaluation) -> str:
    """Return Markdown for the run's description."""
    heading = f"{_NOTE} by `dqnkit eval`, seed {evaluation.seed}:\n"
    return f"{heading}\n{markdown_summary(evaluation.samples)}"
