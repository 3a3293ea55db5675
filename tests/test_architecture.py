"""Imports go downwards only, each large dependency has one home, and starting is quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

LAYERS = [
    {"cli"},
    {"dqnkit.tuning"},
    {"dqnkit.workers"},
    {"dqnkit.runs.trainer", "dqnkit.analysis"},
    {"dqnkit.runs.resumption", "dqnkit.runs.artifacts"},
    {"dqnkit.runs.history", "dqnkit.runs.metrics"},
    {"dqnkit.runs.checkpoints", "dqnkit.runs.snapshot", "dqnkit.runs.result"},
    {"dqnkit.runs.components", "dqnkit.runs.descriptions", "dqnkit.runs.reporting"},
    {"dqnkit.loops.graph", "dqnkit.loops.host", "dqnkit.reverb.learner"},
    {"dqnkit.reverb.actor_pool", "dqnkit.loops.updates"},
    {"dqnkit.reverb.actor"},
    {"dqnkit.loops.episodes"},
    {
        "dqnkit.loops.base",
        "dqnkit.processes.interrupts",
        "dqnkit.evaluation.plots",
        "dqnkit.rendering",
    },
    {"dqnkit.tracking", "dqnkit.evaluation", "dqnkit.agents.learner"},
    {"dqnkit._system.arrays", "dqnkit.processes.launcher"},
    {
        "dqnkit.replay",
        "dqnkit.agents.policies",
        "dqnkit.agents.schedules",
        "dqnkit.envs.resolution",
    },
    {"dqnkit.agents.categorical", "dqnkit.agents.optimizers", "dqnkit.agents.exploration"},
    {
        "dqnkit.agents.networks",
        "dqnkit.envs",
        "dqnkit.evaluation.aggregates",
        "dqnkit.config.seeds",
    },
    {
        "dqnkit._system.random_bits",
        "dqnkit.envs.transitions",
        "dqnkit._system.memory",
        "dqnkit._system.extras",
    },
    {"dqnkit._system.tensorflow", "dqnkit.config.loading"},
    {
        "dqnkit.config.sections",
        "dqnkit._system.stderr",
        "dqnkit.envs.specs",
        "dqnkit.evaluation.formatting",
        "dqnkit._system.commands",
    },
    {"dqnkit.config.distributions"},
    {"dqnkit.config.fields"},
    {"dqnkit.errors", "dqnkit._system.redaction"},
]
"""From the top: a module may import from layers below its own, and from its own package."""

HOMES = {
    "tensorflow": ("dqnkit._system.tensorflow", "dqnkit.tracking._pyfunc"),
    "tf_agents": ("dqnkit._system.tensorflow",),
    "mlflow": ("dqnkit.tracking",),
    "optuna": ("dqnkit.tuning",),
    "gymnasium": ("dqnkit.envs",),
    "reverb": ("dqnkit.replay.reverb",),
    "typer": ("cli",),
    "rich": ("cli",),
    "matplotlib": ("dqnkit.evaluation.plots",),
    "plotly": ("dqnkit.evaluation.plots",),
    "PIL": ("dqnkit.rendering",),
    "imageio_ffmpeg": ("dqnkit.rendering",),
}


def _modules() -> dict[str, Path]:
    files = [path for package in ("cli", "dqnkit") for path in (ROOT / package).rglob("*.py")]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files
    }


MODULES = _modules()


def _imports(path: Path) -> set[str]:
    """Dotted names of what a module imports when it runs (not for type checkers alone)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _layer(module: str) -> int:
    names = [".".join(module.split(".")[:i]) for i in range(module.count(".") + 1, 0, -1)]
    for name in names:
        for depth, layer in enumerate(LAYERS):
            if name in layer:
                return depth
    raise AssertionError(f"{module} stands in no layer: add it to LAYERS")


def _ours(name: str) -> str | None:
    """The module of ours that an imported name lives in."""
    candidates = [name, name.rpartition(".")[0]]
    return next((c for c in candidates if c in MODULES and c not in {"dqnkit", "cli"}), None)


def _package(module: str) -> str:
    """`cli`, or the part of `dqnkit` that a module belongs to."""
    return ".".join(module.split(".")[: 1 if module.startswith("cli") else 2])


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"dqnkit"}))
def test_imports_go_downwards(module: str) -> None:
    for name in _imports(MODULES[module]):
        target = _ours(name)
        if target is None or target == module:
            continue
        same_package = _package(target) == _package(module) and _layer(target) == _layer(module)
        assert _layer(target) > _layer(module) or same_package, f"{module} imports {target}"


@pytest.mark.parametrize("dependency", sorted(HOMES))
def test_each_large_dependency_has_one_home(dependency: str) -> None:
    users = {
        module
        for module, path in MODULES.items()
        if any(name.split(".")[0] == dependency for name in _imports(path))
    }
    homes = HOMES[dependency]
    assert not {user for user in users if not any(f"{user}.".startswith(f"{h}.") for h in homes)}


@pytest.mark.parametrize(
    "code",
    [
        "import dqnkit",
        "import dqnkit; dqnkit.load('cartpole')",
        "from cli.main import run; run(['--help'])",
        "from cli.main import run; run(['train', '--help'])",
        "from cli.main import run; run(['tune', '--help'])",
        "from cli.main import run; run(['tune', '--trials', '0'])",
        "from cli.main import run; run(['tune', 'no-such-experiment'])",
        "from cli.main import run; run(['tune', '--set', 'search.agent.gama={type: float}'])",
        "from cli.main import run; run(['train', '--from-study', 'none'])",
        "from cli.main import run; run(['experiments'])",
        "from cli.main import run; run(['train', 'no-such-experiment'])",
        "from cli.main import run; run(['runs'])",
        "from cli.main import run; run(['eval', 'latest'])",
        "from cli.main import run; run(['render', './nowhere'])",
        "from cli.main import run; run(['compare', 'latest'])",
        "from cli.main import run; run(['ui'])",
        "from dqnkit.tracking import make_tracker, store; store.resolve().make()",
    ],
)
def test_neither_tensorflow_nor_mlflow_is_loaded_without_need(code: str) -> None:
    check = (
        "import sys; loaded = {'tensorflow', 'mlflow', 'matplotlib'} & set(sys.modules); "
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
