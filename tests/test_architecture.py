"""Packages depend downwards only, large dependencies have one home, and imports are quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

LAYERS = (
    ("cli",),
    ("tuning",),
    ("workers",),
    ("analysis",),
    ("runs",),
    ("reverb",),
    ("loops",),
    ("tracking",),
    ("evaluation",),
    ("agents", "replay"),
    ("envs",),
    ("config", "processes"),
    ("events",),
    ("_system",),
    ("errors",),
)
"""Packages from the top down: each may import from the layers below its own."""

HOMES = {
    "tensorflow": ("dqnkit._system.tensorflow", "dqnkit.tracking._pyfunc"),
    "tf_agents": ("dqnkit._system.tensorflow",),
    "mlflow": ("dqnkit.tracking",),
    "optuna": ("dqnkit.tuning",),
    "gymnasium": ("dqnkit.envs",),
    "reverb": ("dqnkit.reverb",),
    "ray": ("dqnkit.workers.ray_cluster",),
    "typer": ("cli",),
    "rich": ("cli",),
    "matplotlib": ("dqnkit.evaluation.plots",),
    "plotly": ("dqnkit.evaluation.plots",),
    "PIL": ("dqnkit.analysis.panel",),
    "imageio_ffmpeg": ("dqnkit.analysis.video_writer",),
    "lazy_loader": ("dqnkit",),
}


def _modules() -> dict[str, Path]:
    files = [path for package in ("cli", "dqnkit") for path in (ROOT / package).rglob("*.py")]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files
    }


MODULES = _modules()


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Return the dotted names that a module imports when it runs, also inside functions."""
    return tuple(_walk_imports(module))


def _walk_imports(module: str) -> Iterator[str]:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _own_imports(module: str) -> set[str]:
    """Return the modules of this project that a module imports."""
    names = set()
    for name in _imports(module):
        found = next((each for each in (name, name.rpartition(".")[0]) if each in MODULES), None)
        if found is not None and found != module:
            names.add(found)
    return names - {"dqnkit", "cli"}


def _package(module: str) -> str:
    """Return `cli`, or the package or top module of `dqnkit` that a module belongs to."""
    return module.split(".")[0 if module.startswith("cli") else 1]


def _depth(module: str) -> int:
    depths = [depth for depth, layer in enumerate(LAYERS) if _package(module) in layer]
    assert depths, f"{module} belongs to no layer: add its package to LAYERS"
    return depths[0]


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"dqnkit"}))
def test_packages_import_downwards_only(module: str) -> None:
    for target in _own_imports(module):
        below = _depth(target) > _depth(module)
        assert below or _package(target) == _package(module), f"{module} imports {target}"


def test_no_module_is_part_of_an_import_cycle() -> None:
    graph = {module: _own_imports(module) for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_the_root_of_the_library_holds_packages_and_at_most_four_modules() -> None:
    modules = list((ROOT / "dqnkit").glob("*.py"))
    assert len(modules) <= 4


@pytest.mark.parametrize(
    "package", sorted(path.parent for path in (ROOT / "dqnkit").rglob("__init__.py")), ids=str
)
def test_a_package_says_what_it_contains(package: Path) -> None:
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8")))
    assert text is not None
    assert len(text.split()) >= 10


def test_no_module_shadows_the_standard_library() -> None:
    names = {module.rpartition(".")[2] for module in MODULES} - {"errors", "cli"}
    assert not names & set(sys.stdlib_module_names)


def test_no_two_public_classes_share_a_name() -> None:
    homes: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


@pytest.mark.parametrize("dependency", sorted(HOMES))
def test_each_large_dependency_has_one_home(dependency: str) -> None:
    users = {
        module
        for module in MODULES
        if any(name.split(".")[0] == dependency for name in _imports(module))
    }
    homes = HOMES[dependency]
    if dependency == "lazy_loader":
        assert users == set(homes)
    assert not {user for user in users if not any(f"{user}.".startswith(f"{h}.") for h in homes)}


LIGHT = [
    "import dqnkit; dir(dqnkit)",
    "import dqnkit; dqnkit.load('cartpole')",
    "import dqnkit, inspect; inspect.signature(dqnkit.train); inspect.signature(dqnkit.tune)",
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
    "from dqnkit.tracking.location import locate_store; locate_store().make()",
]
"""Steps that need neither TensorFlow nor MLflow."""


def test_neither_tensorflow_nor_mlflow_is_loaded_without_need() -> None:
    check = "loaded = {'tensorflow', 'mlflow', 'matplotlib'} & set(sys.modules)"
    steps = [f"{step}\n{check}\nif loaded: sys.exit({step!r} + f': {{loaded}}')" for step in LIGHT]
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(["import sys", *steps])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
