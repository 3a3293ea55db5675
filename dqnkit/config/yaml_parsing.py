"""Parsing of YAML documents into plain values: text, numbers, booleans, null, lists and dicts."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any

import yaml

from dqnkit._system.text import one_line

_SCALARS = (str, int, float, bool, type(None))
_MAX_VALUES = 100_000
_MAX_DEPTH = 50


class _Loader(yaml.SafeLoader):
    """`yaml.SafeLoader` that reads the floats of YAML 1.2 (`1e-3`) and rejects duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML document; None for an empty one.

    Raises:
      ValueError: If the text is not valid YAML, gives a key twice, or holds a value that
        `check_values` rejects. The message is one line.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
        check_values(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(one_line(error)) from error
    except (AttributeError, LookupError, TypeError) as error:
        # PyYAML's constructors raise these for text that its tag does not allow, such as
        # `!!int ''`, `!!bool x` and `!!timestamp x`.
        raise ValueError("a value does not fit its !! tag: remove the tag") from error
    return value


def check_values(value: Any) -> None:
    """Check that JSON can hold a value and all values within it, and that they are not too many.

    Aliases are counted as copies, because a few lines of them can expand to gigabytes.

    Raises:
      ValueError: If a key is not text, a value has another type than text, number, boolean, null,
        list, tuple or mapping, or there are more than 100,000 values or 50 levels.
    """
    remaining, count = [(value, 0)], 0
    while remaining:
        each, depth = remaining.pop()
        count += 1
        if count > _MAX_VALUES or depth > _MAX_DEPTH:
            raise ValueError(
                f"there are more than {_MAX_VALUES:,} values or {_MAX_DEPTH} levels, with each "
                "alias counted as a copy"
            )
        if isinstance(each, Mapping):
            for key in each:
                if not isinstance(key, str):
                    raise ValueError(  # noqa: TRY004 - the same type for every invalid document
                        f"the key {reprlib.repr(key)} is not text: put it in quotes"
                    )
            remaining += [(inner, depth + 1) for inner in each.values()]
        elif isinstance(each, list | tuple):
            remaining += [(inner, depth + 1) for inner in each]
        elif not isinstance(each, _SCALARS):
            raise ValueError(  # noqa: TRY004
                f"{reprlib.repr(each)} is of type {type(each).__name__}, and values are text, "
                "numbers, true, false, null, lists and mappings: put it in quotes"
            )


def plain_copy(value: Any) -> Any:
    """Return a copy that shares no part with the value: dicts for mappings, lists for tuples."""
    if isinstance(value, Mapping):
        return {key: plain_copy(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_copy(each) for each in value]
    return value
