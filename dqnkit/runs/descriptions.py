"""What a run is called and what is said of it in its record."""

from __future__ import annotations

import platform
import secrets
import shlex
import subprocess
import sys
from pathlib import Path

from dqnkit import __version__
from dqnkit._system.redaction import redact_secrets
from dqnkit.config.sections import Config
from dqnkit.evaluation.episodes import MARKDOWN_HEAD, Evaluation
from dqnkit.tracking.tracker import KIND_TAG

_AGENTS = {"dqn": "DQN", "double_dqn": "Double DQN", "c51": "C51", "double_c51": "Double C51"}


def run_name(config: Config) -> str:
    """Experiment, seed and a short random id: readable, and hardly ever the same twice."""
    return f"{config.name}-s{config.training.seed}-{secrets.token_hex(2)}"


def agent(config: Config) -> str:
    """What trains, in the field's words, such as `Double DQN, dueling, 3-step returns`."""
    parts = [_AGENTS[config.agent.kind]]
    if config.network.dueling:
        parts.append("dueling")
    if config.agent.n_step > 1:
        parts.append(f"{config.agent.n_step}-step returns")
    if config.replay.is_prioritized:
        parts.append("prioritized replay")
    return ", ".join(parts)


def tags(config: Config) -> dict[str, str]:
    """Tags of a run: where it came from and what it ran on."""
    return {
        **config.tracking.tags,
        KIND_TAG: "training",
        "dqnkit.version": __version__,
        "dqnkit.env": config.env.id,
        "dqnkit.seed": str(config.training.seed),
        "dqnkit.loop": config.training.loop,
        "dqnkit.command": redact_secrets(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
        "dqnkit.device": _device(),
        "dqnkit.python": platform.python_version(),
        **_git(),
    }


def before(config: Config) -> str:
    """Markdown shown with a run while it trains."""
    text = [config.description] if config.description else []
    text.append(f"{agent(config)} on **{config.env.id}**, seed {config.training.seed}.")
    return "\n\n".join(text)


def broken_off(config: Config, reason: BaseException) -> str:
    """Markdown shown with a run that an exception has ended."""
    said = "; ".join([str(reason), *getattr(reason, "__notes__", ())])
    cause = " ".join(said.split()) or "interrupted"
    return f"{before(config)}\n\nIt did not end by itself: {type(reason).__name__}, {cause}"


def after(config: Config, best: Evaluation, final: Evaluation) -> str:
    """Markdown shown with a run that has ended."""
    text = [config.description] if config.description else []
    rows = [
        best.markdown_row(f"best, at step {best.env_steps:,}", with_interval=False),
        final.markdown_row("that policy again, fresh episodes"),
    ]
    text += [
        f"{agent(config)} on **{config.env.id}**, seed {config.training.seed}.",
        "\n".join([MARKDOWN_HEAD, *rows]),
        "Repeat it: save the artifact `config.yaml`, then `dqnkit train config.yaml`.",
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
    """Commit and dirtiness of the repository that the caller stands in; nothing outside one."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()

    try:
        return {
            "mlflow.source.git.commit": git("rev-parse", "HEAD"),
            "dqnkit.git_dirty": str(bool(git("status", "--porcelain"))).lower(),
        }
    except (OSError, subprocess.SubprocessError):
        return {}
