"""Input that nobody meant: made up by Hypothesis, by the thousand, and never met by a traceback."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cli import main
from dqnkit.config import loading, yaml_parsing
from dqnkit.config.sections import Config
from dqnkit.config.yaml_parsing import _Loader
from dqnkit.errors import ConfigError
from dqnkit.tracking import location
from dqnkit.tracking.references import find_run
from dqnkit.tracking.store import RunStore
from tests.conftest import ROOT
from tests.runs import record

KEYS = loading.config_keys()
SECTIONS = list(Config.model_fields)
_FEW = settings(deadline=None, suppress_health_check=list(HealthCheck))
FAST = settings(_FEW, max_examples=60)
"""Settings of the fast suite; the slow one tries more inputs."""

numbers = (
    st.integers(-3, 3)
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.sampled_from([10**400, 2**63, -(2**63), 1e308, 5e-324, -0.0])
)
texts = st.text(max_size=20) | st.sampled_from(
    ["", " ", "null", "1e-3", "../..", "\x00", "é", "\uff3f"]
)
scalars = st.none() | st.booleans() | numbers | texts | st.dates() | st.binary(max_size=4)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            texts | st.sampled_from([*SECTIONS, "type", "path", "low"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
known_values = st.sampled_from(
    ["dqn", "double_c51", "prioritized", "linear", "boltzmann", "host", "async", 1, 4, 0.5, True]  # noqa: RUF005 - in lines
    + [[], [64, 64], {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}]
)
keys = st.sampled_from(KEYS) | st.sampled_from(SECTIONS) | st.text(max_size=12)
documents = st.lists(st.tuples(keys, values | known_values), min_size=1, max_size=4)

fragments = st.lists(
    st.sampled_from(
        [  # noqa: RUF005 - in lines
            "agent:",
            " agent: ",
            "\n",
            "  ",
            "\t",
            "gamma: ",
            "0.9",
            "- ",
            "[",
            "]",
            "{",
            "}",
            ",",
            ": ",
        ]
        + [
            "&a ",
            "*a",
            "<<: *a",
            "!!python/object/apply:os.system ['true']",
            "!!set {a}",
            "? ",
            "|",
        ]
        + ["!!binary aGk=", "2020-01-01", "---", "...", "%YAML 1.1", "!x ", '"', "'", "# ", "env:"]
        + ["!!int ''", "!!bool x", "!!timestamp x"]
        + ["\ufeff", "\x85", "\u2028", "0x1F", "0o17", "1_000", "1:30", ".inf", ".nan", "~", "yes"]
        + ["1" * 5_000, "env: {kwargs: ", "&a [*a]", "training: {seed: "]
    ),
    max_size=14,
).map("".join)
assignments = (
    st.text(max_size=30)
    | st.tuples(keys, st.sampled_from(["=", "", " = ", "=="]), texts | fragments).map("".join)
    | st.tuples(keys, values | known_values).map(lambda pair: f"{pair[0]}={_flow(pair[1])}")
)


def _flow(value: Any) -> str:
    """Return a value as one line of YAML, as a shell passes it."""
    with contextlib.suppress(yaml.YAMLError):
        return yaml.safe_dump(value, default_flow_style=True, width=math.inf).strip()
    return repr(value)


def _document(entries: list[tuple[str, Any]]) -> str:
    """Return the YAML of a document with values under keys."""
    document: dict[str, Any] = {}
    for key, value in entries:
        section, dot, rest = key.partition(".")
        below = document.setdefault(section, {})
        if dot and isinstance(below, dict):
            below[rest] = value
        else:
            document[section] = value
    return yaml.safe_dump(document, allow_unicode=True)


def _check(text: str, *given_assignments: str) -> None:
    """Check that a text is a configuration that survives a round trip, or a named mistake."""
    try:
        config = loading.load_text(text, "given.yaml", given_assignments)
    except ConfigError as error:
        message = str(error)
        names_an_override = any(each in message for each in given_assignments)
        assert "given.yaml" in message or names_an_override
        if "is not valid YAML" not in message and not names_an_override:
            document = yaml.safe_load(text)
            named = [*(document if isinstance(document, dict) else ()), *SECTIONS]
            assert any(str(key) in message for key in named), message
        return
    again = loading.load_text(loading.dump(config), "again.yaml")
    assert loading.dump(again) == loading.dump(config)
    assert config.flat().keys() == again.flat().keys()


def _bombs() -> Iterator[str]:
    """Yield short documents that would become huge, endless, or code."""
    yield "a: &a [x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(9)
    )
    yield "env: {kwargs: &a {again: *a}}"
    yield "env:\n  kwargs: &a [*a]"
    yield "[" * 3_000
    yield "env: {kwargs: " + "{a: " * 200 + "1" + "}" * 201 + "}"
    yield "env: {kwargs: {? [1, 2] : 3}}"
    yield "!!python/object/apply:os.mkdir ['made']"
    yield "env: !!python/name:os.system"


@pytest.mark.parametrize("text", list(_bombs()))
def test_dangerous_documents_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"given\.yaml"):
        loading.load_text(text, "given.yaml")
    assert not Path("made").exists()


@FAST
@given(documents)
def test_documents(entries: list[tuple[str, Any]]) -> None:
    _check(_document(entries))


@FAST
@given(fragments | st.text(max_size=60))
@example("agent: *a")
def test_yaml_text(text: str) -> None:
    _check(text)


@FAST
@given(st.lists(assignments, min_size=1, max_size=3))
def test_assignments(given_assignments: list[str]) -> None:
    _check("", *given_assignments)


def _command(*arguments: str) -> tuple[int, str]:
    """Run a command line in this process; return its exit code and its output."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main.run(arguments)
    return code, output.getvalue()


@pytest.fixture
def _trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.train._train", lambda *_, **__: None)


def _check_command(*arguments: str) -> None:
    code, output = _command(*arguments)
    assert code in {0, 2}, output
    assert "Traceback" not in output
    assert "bug in dqnkit" not in output
    assert (code == 2) == bool(output.strip()), output


@FAST
@given(text=documents.map(_document) | fragments, more=st.lists(assignments, max_size=2))
@pytest.mark.usefixtures("_trains_nothing")
def test_commands_about_configurations(text: str, more: list[str]) -> None:
    Path("given.yaml").write_text(text, encoding="utf-8", errors="replace")
    sets = [part for each in more for part in ("--set", each.replace("\x00", ""))]
    _check_command("train", "given.yaml", *sets)


references = (
    st.text(max_size=30)
    | st.sampled_from(["latest", "best", "latest:", "best:a-run", "models:/", "models:/x@", "/"])
    | st.sampled_from(
        ["../../..", "~", "~nobody", "~0", "a" * 5_000, "'", '"', "'\"", "%", "models:/a/b/c"]
    )
    | st.from_regex(r"models:/[^@/]{0,5}[@/].{0,5}")
    | st.text(alphabet="0123456789abcdef", max_size=34)
)


@pytest.fixture(scope="module")
def a_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a store that contains the run `a-run`."""
    folder = tmp_path_factory.mktemp("store")
    before = Path.cwd()
    os.chdir(folder)
    record(name="a-run", finals=[1.0, 2.0], tracking_uri=str(folder))
    os.chdir(before)
    return folder


@FAST
@given(reference=references)
def test_references_to_runs(a_store: Path, reference: str) -> None:
    with contextlib.suppress(ConfigError):
        assert find_run(RunStore(location.locate_store(str(a_store))), reference).name == "a-run"


@settings(_FEW, max_examples=20)
@given(reference=references)
def test_commands_about_runs(a_store: Path, reference: str) -> None:
    reference = reference.replace("\x00", "")
    is_right = False
    with contextlib.suppress(ConfigError):
        is_right = (
            find_run(RunStore(location.locate_store(str(a_store))), reference).name == "a-run"
        )
    for command in (("eval",), ("render",), ("train", "--resume")):
        code, output = _command(*command, "--tracking-uri", str(a_store), *_as_value(reference))
        # A run without files is a fault of the store, and not of the command line.
        assert code == 2 or (is_right and code == 1), (command, output)
        assert "Traceback" not in output
        assert "bug in dqnkit" not in output


def _as_value(text: str) -> list[str]:
    """Return the arguments with which a text is not taken for an option."""
    return ["--", text] if text.startswith("-") else [text]


@FAST
@given(
    uri=st.text(max_size=40) | st.sampled_from(["file:", "sqlite:///", "http://", "x:y", "s3://"])
)
def test_addresses_of_stores(uri: str) -> None:
    with contextlib.suppress(ConfigError):
        assert location.locate_store(uri).uri


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "/etc/x", "a\\b", ".", "~", "a\nb", "-x"])
def test_names_never_lead_out_of_the_store(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        loading.default_config("x", [f"name={_flow(name)}"])
    code, output = _command("tune", "--trials", "1", "--study", name)
    assert code == 2, output
    assert not Path("mlruns/mlflow.db").exists()


def test_yaml_is_loaded_as_data_only() -> None:
    """`yaml.load` is called in one module, with a loader that constructs no Python objects."""
    assert issubclass(_Loader, yaml.SafeLoader)
    loads = re.compile(r"yaml\.(load|unsafe_load|full_load|load_all)\(")
    home = Path(yaml_parsing.__file__)
    for path in [*(ROOT / "dqnkit").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        if path != home:
            assert not loads.search(text), path
        assert not re.search(r"\bpickle\b|allow_pickle=True", text), path
    text = home.read_text(encoding="utf-8")
    assert text.count("yaml.load(") == text.count("Loader=_Loader)") == 1


SLOW = [
    (test_documents, 2_500),
    (test_yaml_text, 1_500),
    (test_assignments, 1_500),
    (test_commands_about_configurations, 500),
    (test_references_to_runs, 400),
    (test_commands_about_runs, 100),
    (test_addresses_of_stores, 500),
]


@pytest.mark.slow
@pytest.mark.parametrize(("test", "cases"), SLOW, ids=lambda x: getattr(x, "__name__", str(x)))
@pytest.mark.usefixtures("_trains_nothing")
def test_many_more(
    test: Callable[..., None], cases: int, a_store: Path, tally: Callable[..., None]
) -> None:
    inner = test.hypothesis.inner_test  # type: ignore[attr-defined]
    tried = 0

    def counted(*arguments: Any, **named: Any) -> None:
        nonlocal tried
        tried += 1
        inner(*arguments, **named)

    strategies = {
        "test_documents": {"entries": documents},
        "test_yaml_text": {"text": fragments | st.text(max_size=60)},
        "test_assignments": {"given_assignments": st.lists(assignments, min_size=1, max_size=3)},
        "test_commands_about_configurations": {
            "text": documents.map(_document) | fragments,
            "more": st.lists(assignments, max_size=2),
        },
        "test_references_to_runs": {"a_store": st.just(a_store), "reference": references},
        "test_commands_about_runs": {"a_store": st.just(a_store), "reference": references},
        "test_addresses_of_stores": {"uri": st.text(max_size=40)},
    }[test.__name__]
    settings(_FEW, max_examples=cases)(given(**strategies)(counted))()
    assert tried >= cases * 0.9
    tally("inputs", tried)
