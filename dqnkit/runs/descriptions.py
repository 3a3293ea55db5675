"""Names, tags and Markdown descriptions of runs."""

from __future__ import annotations

import platform
import secrets
import shlex
import subprocess
import sys
from pathlib import Path

from dqnkit import __version__
from dqnkit._system.files import kept_folder
from dqnkit._system.redaction import redact_secrets
from dqnkit.config.fingerprint import fingerprint
from dqnkit.config.sections import Config
from dqnkit.evaluation.episodes import Evaluation, markdown_summary
from dqnkit.tracking.names import RunKind, Tag

_AGENTS = {"dqn": "DQN", "double_dqn": "Double DQN", "c51": "C51", "double_c51": "Double C51"}


def make_run_name(config: Config) -> str:
    """Return a readable name that is practically unique: experiment, seed and a short random id."""
    return f"{config.name}-s{config.training.seed}-{secrets.token_hex(2)}"


def agent(config: Config) -> str:
    """Return the agent in words, such as `Double DQN, dueling, 3-step returns`."""
    parts = [_AGENTS[config.agent.kind]]
    if config.network.dueling:
        parts.append("dueling")
    if config.agent.n_step > 1:
        parts.append(f"{config.agent.n_step}-step returns")
    if config.replay.is_prioritized:
        parts.append("prioritized replay")
    return ", ".join(parts)


def tags(config: Config) -> dict[str, str]:
    """Return the tags of a run: its origin and the machine that it runs on."""
    return {
        **config.tracking.tags,
        Tag.KIND: RunKind.TRAINING,
        Tag.VERSION: __version__,
        Tag.ENV: config.env.id,
        Tag.SEED: str(config.training.seed),
        Tag.LOOP: config.training.loop,
        Tag.COMMAND: redact_secrets(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
        Tag.DEVICE: _device(),
        Tag.PYTHON: platform.python_version(),
        Tag.CONFIG: fingerprint(config),
        **_git(),
    }


def opening(config: Config) -> str:
    """Return the Markdown shown with a run while it trains."""
    text = [config.description] if config.description else []
    text.append(f"{agent(config)} on **{config.env.id}**, seed {config.training.seed}.")
    return "\n\n".join(text)


def interrupted(config: Config, reason: BaseException) -> str:
    """Return the Markdown shown with a run that an exception has ended."""
    causes = "; ".join([str(reason), *getattr(reason, "__notes__", ())])
    cause = " ".join(causes.split()) or "interrupted"
    return f"{opening(config)}\n\nThis run did not finish: {type(reason).__name__}, {cause}"


def summary(config: Config, best: Evaluation, final: Evaluation | None) -> str:
    """Return the Markdown shown with a run that has ended; without final episodes, early."""
    text = [config.description] if config.description else []
    best_row = f"best, at step {best.env_steps:,}"
    rows = {best_row: best}
    if final is not None:
        rows["that policy again, fresh episodes"] = final
    text += [
        f"{agent(config)} on **{config.env.id}**, seed {config.training.seed}.",
        markdown_summary(rows, without_interval={best_row}),
        "To repeat the run, save the artifact `config.yaml` and call `dqnkit train config.yaml`.",
    ]
    return "\n\n".join(text)


def _device() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"CPU {models[0] if models else platform.processor() or platform.machine()}"


def _git() -> dict[str, str]:
    """Return commit and dirtiness of the git repository around the working directory."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=kept_folder(),
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        ).stdout.strip()

    try:
        return {
            Tag.GIT_COMMIT: git("rev-parse", "HEAD"),
            Tag.GIT_DIRTY: str(bool(git("status", "--porcelain"))).lower(),
        }
    except (OSError, subprocess.SubprocessError):
        return {}
