"""Agent specs in files: YAML with line numbers in every complaint, or Python that makes an AgentSpec."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from interplay.agents.checks import Path as Place
from interplay.agents.checks import Problem, SpecError, problems
from interplay.agents.spec import AgentSpec
from interplay.core.types import BadInput

MAX_BYTES = 256_000
MAX_DEPTH = 12
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's where it is there: ten times as fast


def load_spec(path: str | Path) -> AgentSpec:
    """Read FILE.yaml (or .yml, .json) or FILE.py, which is run and must define `agent = AgentSpec(...)`.

    Raises BadInput (SpecError with line numbers where the content is wrong).
    """
    path = Path(path)
    if path.suffix == ".py":
        return _from_python(path)
    return parse_spec(read_text(path), source=str(path))


def parse_spec(text: str, *, source: str = "the agent spec") -> AgentSpec:
    """A spec from YAML (or JSON, which is YAML). Raises SpecError whose problems carry line numbers."""
    data, lines = parse_yaml(text, source=source)
    return spec_from(data, lines, source=source)


def spec_from(data: Any, lines: dict[Place, int], *, source: str, at: Place = ()) -> AgentSpec:
    """The spec in `data`, which lies at `at` in a file whose places have these `lines`."""
    found = problems(data)
    if found:
        raise SpecError([Problem(p.path, p.message, line_of((*at, *p.path), lines)) for p in found], source)
    return AgentSpec.from_dict(data)


def dump_spec(spec: AgentSpec) -> str:
    """The spec as YAML in the order of its fields; `parse_spec` reads it back to an equal spec."""
    return dump_yaml(spec.to_dict())


def dump_yaml(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """A text file of bounded size. Raises BadInput in one line."""
    try:
        if path.is_dir():
            raise BadInput(f"{path} is a directory, not a file")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise BadInput(f"no such file: {path}") from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > limit:
        raise BadInput(f"{path} has more than {limit} bytes; that is no agent file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text") from error


def parse_yaml(text: str, *, source: str) -> tuple[Any, dict[Place, int]]:
    """Plain data and the 1-based line of every place in it. No aliases, no tags, no key twice.

    Raises SpecError with the line.
    """
    if len(text) > MAX_BYTES * 40:
        raise BadInput(f"{source}: too long")
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.AliasEvent):
                raise SpecError([Problem((), "YAML aliases (*name) are not allowed here", _line(event))], source)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(str(error.problem or error.context).split())
        raise SpecError([Problem((), f"not YAML: {said}", mark.line + 1 if mark else 0)], source) from error
    except yaml.YAMLError as error:
        raise SpecError([Problem((), f"not YAML: {' '.join(str(error).split())}")], source) from error
    except RecursionError as error:
        raise SpecError([Problem((), "nested too deeply")], source) from error
    lines: dict[Place, int] = {}
    found: list[Problem] = []
    data = _plain(node, (), lines, found) if node is not None else {}
    if found:
        raise SpecError(found, source)
    return data, lines


def line_of(place: Place, lines: dict[Place, int]) -> int:
    """The line of a place, or of the nearest thing around it."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)


def _plain(node: Node, place: Place, lines: dict[Place, int], found: list[Problem]) -> Any:
    lines.setdefault(place, _line(node))
    if len(place) > MAX_DEPTH:
        found.append(Problem(place[:3], "nested too deeply", _line(node)))
        return None
    if not node.tag.startswith("tag:yaml.org,2002:") or ":python/" in node.tag:
        found.append(Problem(place, f"YAML tags ({node.tag[:60]}) are not allowed here", _line(node)))
        return None
    if isinstance(node, ScalarNode):
        return _scalar(node, place, found)
    if isinstance(node, SequenceNode):
        return [_plain(child, (*place, index), lines, found) for index, child in enumerate(node.value)]
    out: dict[str, Any] = {}
    assert isinstance(node, MappingNode)
    for key_node, value_node in node.value:
        key = key_node.value
        if not isinstance(key_node, ScalarNode) or not isinstance(key, str):
            found.append(Problem(place, "a key must be plain text", _line(key_node)))
            continue
        if key in out:
            found.append(Problem((*place, key), "is given twice", _line(key_node)))
        lines[(*place, key)] = _line(key_node)
        out[key] = _plain(value_node, (*place, key), lines, found)
    return out


def _scalar(node: ScalarNode, place: Place, found: list[Problem]) -> Any:
    """Text, number, true, false or nothing. A date stays the text it was written as."""
    loader = yaml.SafeLoader("")
    try:
        if node.tag.endswith((":timestamp", ":binary")):
            return node.value
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        said = getattr(error, "problem", None) or str(error)
        found.append(Problem(place, " ".join(str(said).split()), _line(node)))
        return None
    finally:
        loader.dispose()


def _line(thing: Any) -> int:
    return thing.start_mark.line + 1


def _from_python(path: Path) -> AgentSpec:
    if not path.is_file():
        raise BadInput(f"no such file: {path}")
    try:
        made = runpy.run_path(str(path)).get("agent")
    except SpecError as error:
        raise SpecError(list(error.problems), str(path)) from error
    except SyntaxError as error:
        raise BadInput(f"{path} line {error.lineno}: {error.msg}") from error
    except Exception as error:
        line = _line_in(error, path)
        raise BadInput(f"{path}{f' line {line}' if line else ''}: {type(error).__name__}: {error}") from error
    if not isinstance(made, AgentSpec):
        raise BadInput(f"{path} must define `agent = AgentSpec(...)`")
    return made


def _line_in(error: BaseException, path: Path) -> int:
    """The last line of `path` in the traceback, 0 if it is not in there."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


class _Dumper(yaml.SafeDumper):
    """Several lines of text are written as a block, as a person would."""


def _represent_text(dumper: _Dumper, text: str) -> Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
