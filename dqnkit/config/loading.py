"""Experiments: configurations in YAML files, by name or by path, with assignments on top."""

from __future__ import annotations

import difflib
import json
import re
import reprlib
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dqnkit._system.text import one_line
from dqnkit.config.distributions import KINDS
from dqnkit.config.fields import Section
from dqnkit.config.sections import Config
from dqnkit.errors import ConfigError

DEFAULT_EXPERIMENT = "cartpole"

_PACKAGE = Path(__file__).parents[1]
_DIRECTORIES = (_PACKAGE / "_experiments", _PACKAGE.parent / "experiments")
"""Where the committed experiments are: beside the code in a wheel, at the top in a checkout."""


_SCALARS = (str, int, float, bool, type(None))
_MAX_VALUES = 100_000
_MAX_DEPTH = 50


class Override(NamedTuple):
    """A value that has an option of its own on the command line."""

    given: str
    """As the user wrote it, for messages."""
    value: Any


class _Loader(yaml.SafeLoader):
    """`yaml.SafeLoader` with YAML 1.2's floats (`1e-3`) and without repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands here twice", node.start_mark
                )
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)$"),
    list("-+.0123456789"),
)


def experiment_names() -> list[str]:
    """The committed experiments."""
    return sorted(path.stem for path in _directory().glob("*.yaml"))


def load(
    experiment: str = DEFAULT_EXPERIMENT,
    assignments: Sequence[str] = (),
    options: Mapping[str, Override] | None = None,
) -> Config:
    """Reads an experiment and puts assignments on top of it.

    Args:
      experiment: A committed experiment's name, or a path to a YAML file.
      assignments: `section.key=value` each, the value in YAML; later ones win.
      options: Values by `section.key` that win over all, with what messages call them.

    Raises:
      ConfigError: The experiment, a key or a value is not acceptable; the message names the
        file or the assignment, the key, what was given and what is allowed.
    """
    path = _locate(experiment)
    document = _read(path)
    document.setdefault("name", _as_name(path.stem))
    return _validate(document, assignments, options or {}, str(path))


def load_text(
    text: str,
    source: str,
    assignments: Sequence[str] = (),
    options: Mapping[str, Override] | None = None,
) -> Config:
    """An experiment from its text (see `load`); messages call it `source`."""
    return _validate(_parse(text, source), assignments, options or {}, source)


def default_config(
    name: str, assignments: Sequence[str] = (), options: Mapping[str, Override] | None = None
) -> Config:
    """The defaults under an experiment name, with assignments on top (see `load`)."""
    return _validate({"name": _as_name(name)}, assignments, options or {}, "the defaults")


def load_for_environment(
    env_id: str, assignments: Sequence[str] = (), options: Mapping[str, Override] | None = None
) -> Config:
    """The committed experiment for an environment; the defaults where there is none."""
    for name in experiment_names():
        if load(name).env.id == env_id:
            return load(name, assignments, options)
    return default_config(env_id.lower(), assignments, options)


def override(
    config: Config, options: Mapping[str, Override], assignments: Sequence[str] = ()
) -> Config:
    """A configuration with other values for some keys (see `load`)."""
    return _validate(config.model_dump(mode="json"), assignments, options, "the experiment")


def override_choices(config: Config, options: Mapping[str, Override]) -> Config:
    """As `changed`, and of the options too, what the choices among them do not read becomes null.

    So a search may go over several kinds of agent though some of its keys are read by one alone.
    """
    document = config.model_dump(mode="json")
    return _validate(document, (), options, "the experiment", keep_unread=False)


def load_recorded(text: str, source: str) -> Config:
    """A configuration that `dump` wrote, perhaps of an earlier version (see `loads`).

    Earlier ones kept values that nothing reads; they are left out.
    """
    return _validate(_parse(text, source), (), {}, source, keep_unread=False)


def dump(config: Config) -> str:
    """The whole configuration as YAML that `load` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def json_schema() -> str:
    """JSON schema of the configuration, for editors."""
    return json.dumps(Config.model_json_schema(), indent=2) + "\n"


def _as_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("-._")[:100] or "dqn"


def _directory() -> Path:
    return next(path for path in _DIRECTORIES if path.is_dir())


def _locate(experiment: str) -> Path:
    if experiment in experiment_names():
        return _directory() / f"{experiment}.yaml"
    path = Path(experiment)
    try:
        if path.is_file():
            return path
        is_directory = path.is_dir()
    except (OSError, ValueError):
        is_directory = False
    if is_directory:
        raise ConfigError(
            f"{experiment!r} is a folder; give a YAML file or one of {experiment_names()}"
        )
    raise ConfigError(
        f"there is no experiment {experiment!r}{suggestion(experiment, experiment_names())}. "
        f"Committed experiments: {', '.join(experiment_names())}; or give the path of a YAML file"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not valid YAML: {one_line(error)}") from error
    return _parse(text, str(path))


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        document = yaml.load(text, Loader=_Loader)
        _check_values(document)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: is not valid YAML: {one_line(error)}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(
            f"{source}: holds a {type(document).__name__}; a configuration is a mapping of "
            f"sections ({', '.join(Config.model_fields)})"
        )
    return document


def _check_values(document: Any) -> None:
    """Refuses what no file of JSON could hold, and what aliases make larger than any memory.

    Raises:
      ValueError: It is such.
    """
    values, count = [(document, 0)], 0
    while values:
        value, depth = values.pop()
        count += 1
        if count > _MAX_VALUES or depth > _MAX_DEPTH:
            raise ValueError(
                f"it holds more than {_MAX_VALUES:,} values, or nests them more than {_MAX_DEPTH} "
                "deep, aliases counted as what they stand for"
            )
        if isinstance(value, dict):
            odd = next((key for key in value if not isinstance(key, str)), None)
            if odd is not None or None in value:
                raise ValueError(f"the key {reprlib.repr(odd)} is no text: put it in quotes")
            values += [(each, depth + 1) for each in value.values()]
        elif isinstance(value, list):
            values += [(each, depth + 1) for each in value]
        elif not isinstance(value, _SCALARS):
            raise ValueError(  # noqa: TRY004 - as all that is wrong with the text
                f"{reprlib.repr(value)} is a {type(value).__name__}, and values are text, numbers, "
                "true, false, null, lists and mappings: put it in quotes"
            )


def _validate(
    document: dict[str, Any],
    assignments: Sequence[str],
    options: Mapping[str, Override],
    source: str,
    *,
    keep_unread: bool = True,
) -> Config:
    origins: dict[tuple[str, ...], str] = {}
    unread_before = _unread(document)
    for assignment in assignments:
        path, value = _parse_assignment(assignment)
        _assign(document, path, value, assignment)
        origins[path] = f"--set {assignment}"
    for key, option in options.items():
        path = tuple(key.split("."))
        _assign(document, path, option.value, option.given)
        origins[path] = option.given
    for section, key in _unread(document):
        # Another choice takes its own defaults; a value beside the choice that does not read it is
        # a mistake.
        is_given = (section, key) in unread_before or any(
            path in ((section,), (section, key)) for path in origins
        )
        if not (is_given and keep_unread):
            document[section].pop(key, None)
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        lines = [_explain(detail, origins, source) for detail in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def _unread(document: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Section and key of each value in a document that the choices in its section do not read."""
    found = set()
    for name, values in document.items():
        field = Config.model_fields.get(name)
        model = _model_in(field.annotation) if field else None
        if model is not None and issubclass(model, Section) and isinstance(values, dict):
            found |= {(name, key) for key in model.unread(values) if values.get(key) is not None}
    return found


def _parse_assignment(assignment: str) -> tuple[tuple[str, ...], Any]:
    key, equals, text = assignment.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise ConfigError(
            f"--set {assignment}: write section.key=value, "
            "for example --set optimizer.learning_rate=1e-4"
        )
    try:
        value = yaml.load(text, Loader=_Loader)
        _check_values(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"--set {assignment}: the value is not valid YAML: {one_line(error)}"
        ) from error
    return path, value


def _assign(document: dict[str, Any], path: tuple[str, ...], value: Any, assignment: str) -> None:
    target = document
    for part in path[:-1]:
        child = target.get(part)
        if child is None:
            child = target[part] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"--set {assignment}: {part!r} is a value and has no key below it")
        target = child
    target[path[-1]] = value


def _explain(detail: ErrorDetails, origins: dict[tuple[str, ...], str], source: str) -> str:
    location = tuple(str(part) for part in detail["loc"])
    # Pydantic names the kind of a distribution as if it were a key.
    key = ".".join(location[:2] + location[3:] if location[0:1] == ("search",) else location)
    parts = tuple(key.split("."))
    origin = next(
        (
            text
            for path, text in origins.items()
            if path == parts[: len(path)] or (location and parts == path[: len(parts)])
        ),
        source,
    )
    if detail["type"] == "extra_forbidden":
        siblings = list(_model_at(location[:-1]).model_fields)
        everywhere = [path for path in _all_keys() if path.endswith(f".{location[-1]}")]
        hint = f" (did you mean {everywhere[0]!r}?)" if everywhere else ""
        hint = suggestion(location[-1], siblings) or hint
        section = f"the section {key.rpartition('.')[0]!r}" if location[1:] else "the top level"
        return f"{origin}: there is no key {key!r}{hint}. Keys of {section}: {', '.join(siblings)}"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if len(location) < 2 and detail["type"] == "value_error":
        # Keys that do not fit together: any of the sources may be the one to mend.
        within = [text for path, text in origins.items() if path[: len(location)] == location]
        where = f"{location[0]}: " if location else ""
        return f"{', '.join([source, *within])}: {where}{message}"
    message = message.replace("input should be", "but it should be", 1).replace("tuple", "list")
    message = message.replace("dictionary or instance of WrapperConfig", "path, or path: arguments")
    if detail["type"].startswith("union_tag"):
        message = f"but it needs a type of {', '.join(KINDS)}"
    return f"{origin}: {key}: {reprlib.repr(detail['input'])} was given, {message}"


def _model_at(location: tuple[str, ...]) -> type[BaseModel]:
    model: type[BaseModel] = Config
    if location[0:1] == ("search",) and len(location) > 2:
        return KINDS[location[2]]
    for part in location:
        if part in model.model_fields:  # else it is a place in a list
            model = _model_in(model.model_fields[part].annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation is, or that it is a list of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, typing.get_args(annotation))), None)


def config_keys() -> list[str]:
    """Every key that a configuration has, as `section.key`."""
    return list(_all_keys())


def value_at(config: Config, key: str) -> Any:
    """What a configuration has under `section.key`, as YAML has it; None where there is nothing."""
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def is_read(config: Config, key: str) -> bool:
    """Whether the choices of a configuration read what stands under `section.key`."""
    name, _, rest = key.partition(".")
    section = getattr(config, name, None)
    return not isinstance(section, Section) or rest not in section.unread(vars(section))


def _all_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _all_keys(field.annotation, f"{prefix}{name}.")


def suggestion(given: str, known: Sequence[str]) -> str:
    """` (did you mean …?)` where something known is much like what was given."""
    matches = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
