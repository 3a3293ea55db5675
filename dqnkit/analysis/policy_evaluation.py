"""A trained policy's score, on episodes that neither training nor any choice has met."""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dqnkit.config.sections import Config
from dqnkit.config.seeds import later_evaluation_keys
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError, TrackingError
from dqnkit.evaluation import plots
from dqnkit.evaluation.aggregates import Estimate, difference
from dqnkit.evaluation.episodes import MARKDOWN_HEAD, Episodes
from dqnkit.tracking import location
from dqnkit.tracking.client import NOTE_TAG
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.references import find_policy
from dqnkit.tracking.store import RunStore

if TYPE_CHECKING:  # imports TensorFlow, which waits until the policy is found
    from dqnkit.agents.policies import Policy

MAX_EPISODES = 10_000
"""More than any score needs; the bootstrap takes seconds from here on."""
_HOST_BATCH = 16
"""Environments in Python at a time; one number for all, so that all meet the same states."""
_OF_BASELINE = ("final/random/", "final/difference")
_NOTE = "\n\n**Evaluated again**"
"""What a run's description says of later evaluations comes behind this."""


@dataclass(frozen=True, kw_only=True)
class TimedEpisodes(Episodes):
    """Episodes, and what they took."""

    seconds: float
    """Playing alone; environments are made and functions compiled before."""

    def statistics(self) -> dict[str, float]:
        """See `Episodes`."""
        lengths = {
            "length_mean": float(np.mean(self.lengths)),
            "length_min": min(self.lengths),
            "length_max": max(self.lengths),
        }
        return super().statistics() | lengths | {"seconds": self.seconds}

    def as_dict(self) -> dict[str, Any]:
        """See `Episodes`."""
        known = {"iqm_interval": list(self.interval), "seconds": self.seconds}
        return super().as_dict() | known


@dataclass(frozen=True)
class PolicyEvaluation:
    """What a policy came to, and the baseline beside it."""

    label: str
    env_id: str
    seed: int
    trained: TimedEpisodes
    random: TimedEpisodes | None
    """Uniformly random actions in the same initial states."""
    difference: Estimate | None
    """Interquartile mean of the trained policy less that of the random one."""
    run: RecordedRun | None
    """Where it is recorded; None for a policy's folder, whose run is not known."""
    problems: list[str] = field(default_factory=list)
    """What could not be recorded."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
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
    reference: str,
    episodes: int = 100,
    *,
    seed: int = 0,
    baseline: Literal["random"] | None = None,
    tracking_uri: str | None = None,
) -> PolicyEvaluation:
    """Plays a saved policy greedily, and adds its score to the run that trained it.

    Args:
      reference: The run, or a policy's folder (`dqnkit.tracking.references.FORMS`).
      episodes: How many.
      seed: Of the episodes; the same one gives the same initial states for any policy of the
        environment that is played in the same loop.
      baseline: `random` plays uniformly random actions too, from the same initial states.
      tracking_uri: The store; see `dqnkit.tracking.location.resolve`.

    Raises:
      ConfigError: The reference or a number is wrong, or the run has no policy.
      UnsupportedEnvironmentError: The environment is not installed.
      PolicyError: The policy's files are broken.
      TrackingError: The store cannot be read.
    """
    if not 1 <= episodes <= MAX_EPISODES:
        raise ConfigError(f"--episodes {episodes}: give a number from 1 to {MAX_EPISODES:,}")
    if not 0 <= seed < 2**63:
        raise ConfigError(f"--seed {seed}: give a number from 0 to 2**63 - 1")
    reader = RunStore(location.locate_store(tracking_uri))
    with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
        source = find_policy(reader, reference, Path(scratch))
        config, spec = resolve(source.folder.config)
        from dqnkit.agents.policies import RandomPolicy, SavedPolicy  # seconds

        trained = _play(config, SavedPolicy(source.folder.saved_model, spec), episodes, seed)
        random = _play(config, RandomPolicy(spec), episodes, seed) if baseline == "random" else None
    gap = difference(np.asarray(trained.returns), np.asarray(random.returns)) if random else None
    evaluation = PolicyEvaluation(source.label, spec.id, seed, trained, random, gap, source.run)
    if source.run is not None:
        evaluation.problems.extend(_record(reader, source.run, evaluation))
        before = source.run.metrics.get("final/episodes", 0)
        if episodes < before:
            evaluation.problems.append(
                f"the run's score rests on {episodes:,} episodes now, and on {before:,.0f} before; "
                f"--episodes {before:.0f} or more makes it sure again"
            )
    return evaluation


def _play(config: Config, policy: Policy, episodes: int, seed: int) -> TimedEpisodes:
    from dqnkit.evaluation.factory import make_evaluator  # imports TensorFlow

    in_graph = config.training.loop == "graph"
    batch = episodes if in_graph else min(episodes, _HOST_BATCH)
    with ExitStack() as stack:
        evaluator = make_evaluator(config, policy, batch, later_evaluation_keys(seed))
        stack.callback(evaluator.close)
        evaluator.prepare()
        start = time.perf_counter()
        played = [evaluator.play(counter) for counter in range(math.ceil(episodes / batch))]
        seconds = time.perf_counter() - start
    returns = np.concatenate([returns for returns, _ in played])[:episodes]
    lengths = np.concatenate([lengths for _, lengths in played])[:episodes]
    return TimedEpisodes(
        returns=tuple(returns.tolist()), lengths=tuple(lengths.tolist()), seconds=seconds
    )


def _record(reader: RunStore, run: RecordedRun, evaluation: PolicyEvaluation) -> list[str]:
    """Adds the evaluation to the run, in place of the one that it has; what failed, in words."""
    values = evaluation.trained.metrics("final")
    values["final/seconds"] = evaluation.trained.seconds
    if evaluation.random is not None and evaluation.difference is not None:
        values |= evaluation.random.metrics("final/random")
        names = ("difference", "difference_ci_low", "difference_ci_high")
        values |= {f"final/{n}": v for n, v in zip(names, evaluation.difference, strict=True)}
    else:  # what an earlier baseline left does not belong to these episodes
        stale = [name for name in run.metrics if name.startswith(_OF_BASELINE)]
        values |= dict.fromkeys(stale, math.nan)
    note = run.tags.get(NOTE_TAG, "").partition(_NOTE)[0] + _note(evaluation)
    with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
        files = Path(scratch) / "files"
        (files / "final").mkdir(parents=True)
        title = f"{run.name} ({evaluation.env_id})"
        samples = {"trained": evaluation.trained}
        if evaluation.random is not None:
            samples["random"] = evaluation.random
        plots.returns_histogram(samples, title, files / "final" / "returns.png")
        problems = []
        try:
            document = json.dumps(_document(reader, run, evaluation, Path(scratch)))
            (files / "evaluation.json").write_text(document, encoding="utf-8")
        except TrackingError as error:  # what training wrote is not lost for what could not be read
            problems.append(f"evaluation.json stays as it was: {error}")
        return [*problems, *reader.add(run, metrics=values, files=files, note=note)]


def _document(
    reader: RunStore, run: RecordedRun, evaluation: PolicyEvaluation, scratch: Path
) -> dict[str, Any]:
    """`evaluation.json`: what training wrote, with the final episodes replaced.

    Raises:
      TrackingError: It is there and cannot be read.
    """
    document: dict[str, Any] = {}
    if "evaluation.json" in reader.artifacts(run):
        path = reader.fetch(run, "evaluation.json", scratch)
        with contextlib.suppress(ValueError):  # torn: there is nothing to keep
            document = json.loads(path.read_text("utf-8"))
    before = document.get("final") or {}
    final = {key: before.get(key) for key in ("iteration", "env_steps")}
    document["final"] = final | evaluation.trained.as_dict() | {"seed": evaluation.seed}
    document.pop("random", None)
    if evaluation.random is not None:
        document["random"] = evaluation.random.as_dict()
    return document


def _note(evaluation: PolicyEvaluation) -> str:
    """Markdown for the run's description."""
    rows = [evaluation.trained.markdown_row("trained")]
    if evaluation.random is not None:
        rows.append(evaluation.random.markdown_row("random"))
    head = f"{_NOTE} by `dqnkit eval`, seed {evaluation.seed}:\n"
    return "\n".join([head, MARKDOWN_HEAD, *rows])
