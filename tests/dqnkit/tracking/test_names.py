from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from enum import EnumType
from pathlib import Path

import pytest

from dqnkit.tracking import names
from dqnkit.tracking.names import Artifact, Metric, RunKind, Tag
from tests.conftest import ROOT

HOMES = (
    "dqnkit/tracking/names.py",
    "dqnkit/evaluation/document.py",
    "dqnkit/tuning/attributes.py",  # attributes in Optuna's storage, some named like tags
)
"""Modules that may hold the names as literals."""
SECTIONS = (names.TRAIN, names.EVAL, names.BEST, names.LATE, names.FINAL, names.TIME, names.STUDY)
SECTIONS += (names.POOLED, names.SEARCH)
"""Sections of metrics."""
COMMON_WORDS = {"policy", "videos", "search", "checkpoints"}
"""Names of artifacts that are English words, and stand for other things elsewhere."""


def _values(owner: type) -> dict[str, str]:
    return {key: value for key, value in vars(owner).items() if key.isupper()}


@pytest.mark.parametrize("owner", [Metric, Tag, RunKind, Artifact])
def test_names_are_unique(owner: type) -> None:
    values = list(owner) if isinstance(owner, EnumType) else list(_values(owner).values())
    assert len(values) > 3
    assert not [value for value, count in Counter(map(str, values)).items() if count > 1]


def test_metrics_are_in_a_section() -> None:
    for key, value in _values(Metric).items():
        assert value.startswith(tuple(f"{section}/" for section in SECTIONS)) or key == "SEEDS"


def test_document_and_artifact_agree() -> None:
    from dqnkit.evaluation.document import FILE_NAME

    assert Artifact.EVALUATION == FILE_NAME


def _literals(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the string literals of a module and their lines, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value


def test_names_are_literals_in_one_place_only() -> None:
    """A name that is written twice is misspelt or renamed once."""
    exact = {*_values(Metric).values(), *_values(Tag).values(), *_values(Artifact).values()}
    exact -= {*COMMON_WORDS, Metric.SEEDS}
    starts = tuple(f"{section}/" for section in SECTIONS)
    modules = [path for package in ("dqnkit", "cli") for path in (ROOT / package).rglob("*.py")]
    assert len(modules) > 100
    assert not [
        f"{path}:{line}: {text!r}"
        for path in modules
        if str(path.relative_to(ROOT)) not in HOMES
        for line, text in _literals(path)
        if text in exact or text.startswith(starts)
    ]
