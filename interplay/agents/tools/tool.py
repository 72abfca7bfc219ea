"""A tool: a Python function with a name, a description, a schema from its types, and the scope it needs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_type_hints, overload

from interplay.background.base import Work
from interplay.core.types import BadInput, InterplayError, Missing

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
TIMEOUT_S = 10.0


class ToolError(InterplayError):
    """Raised by a tool to say, in one sentence for the person, why it cannot do what was asked."""

    code = "tool"


class Call:
    """What a tool may know and do while it runs: give it a parameter of this type. It is not in the schema.

    It leads to the person, not to the session's other tools: one tool cannot do what another was granted.
    """

    __slots__ = ("ask", "heard", "progress", "sleep", "wait_heard")

    progress: Callable[..., None]  # (text, aloud=False): told when the person asks, or at the next opening if `aloud`
    ask: Callable[[str], Awaitable[str]]  # ask the person and wait for the answer; "" if none comes
    heard: Callable[[], list[str]]  # what the person has said to this work since the last look
    wait_heard: Callable[[], Awaitable[list[str]]]  # the same, once there is something
    sleep: Callable[[float], Awaitable[None]]  # wait in session time, which a file run does not sit out

    def __init__(self, work: Work) -> None:
        self.progress, self.ask, self.sleep = work.progress, work.ask, work.sleep
        self.heard, self.wait_heard = work.heard, work.wait_heard


Runner = Callable[[Mapping[str, Any], Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that can be put into a ToolBox.

    scopes: what it touches, as names ("files.read"); a session must have been granted all of them. writes: it changes
    something outside the conversation. untrusted: what it returns was written by others. approve: a person says yes
    before each call. run: takes validated arguments and the Call.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Runner
    scopes: frozenset[str] = frozenset()
    writes: bool = False
    untrusted: bool = False
    approve: bool = False
    timeout_s: float = TIMEOUT_S
    validate: Callable[[Mapping[str, Any]], dict[str, Any]] = field(default=dict)

    def with_(self, **changes: Any) -> Tool:
        """The same tool with other fields, for example `approve=True`."""
        return replace(self, **changes)


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    *,
    name: str = ...,
    scopes: tuple[str, ...] = ...,
    writes: bool = ...,
    untrusted: bool = ...,
    approve: bool = ...,
    timeout_s: float = ...,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a tool of a function, sync or async. Its first docstring paragraph is what a model reads about it.

        @tool(scopes=("calendar.read",))
        async def appointments(day: str, limit: int = 5) -> list[str]:
            "What is in the calendar on a day, given as 2026-11-30."

    A sync function runs in a thread of its own. Options: name, scopes, writes, untrusted, approve, timeout_s.
    Raises BadInput if the function's arguments have no types or the name cannot be used, Missing without pydantic.
    """
    if function is not None:
        return _make(function)
    return lambda function: _make(function, **options)


def _make(
    function: Callable[..., Any],
    *,
    name: str = "",
    scopes: tuple[str, ...] = (),
    timeout_s: float = TIMEOUT_S,
    **flags: bool,
) -> Tool:
    title = name or function.__name__
    if not NAME.fullmatch(title):
        raise BadInput(f"a tool cannot be called {title!r}: lower-case letters, digits and _, at most 64")
    description = inspect.cleandoc(function.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    parameters, validate, wants_call = _schema(function, title)
    return Tool(
        title, description, parameters, _runner(function, wants_call), frozenset(scopes), timeout_s=timeout_s,
        validate=validate, **flags,
    )  # fmt: skip


def _runner(function: Callable[..., Any], call_name: str) -> Runner:
    from interplay.agents.tools.threads import in_thread

    async def run(arguments: Mapping[str, Any], call: Call) -> Any:
        given = {**arguments, call_name: call} if call_name else dict(arguments)
        if inspect.iscoroutinefunction(function):
            return await function(**given)
        return await in_thread(lambda: function(**given))

    return run


def _schema(function: Callable[..., Any], name: str) -> tuple[dict, Callable[[Mapping[str, Any]], dict[str, Any]], str]:
    """JSON Schema of the arguments, a validator of them, and the name of the parameter that takes the Call, or ""."""
    try:
        from pydantic import ConfigDict, ValidationError, create_model
    except ImportError as error:
        raise Missing('tools need pydantic; get it with: pip install "interplay[tools]"') from error
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    call_name = ""
    for key, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise BadInput(f"tool {name}: *args, **kwargs and positional-only arguments have no schema ({key})")
        if hints.get(key) is Call:
            call_name = key
            continue
        if key not in hints:
            raise BadInput(f"tool {name}: give the argument {key!r} a type")
        fields[key] = (hints[key], ... if parameter.default is parameter.empty else parameter.default)
    # Lax about "5" for 5, strict about names: an argument that nobody declared is a mistake, or somebody's trick.
    model = create_model(name, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields)

    def validate(arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            checked = model.model_validate(dict(arguments))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "arguments"
            raise BadInput(f"{where}: {first['msg']}") from None
        return {key: getattr(checked, key) for key in fields}

    schema = model.model_json_schema()
    schema.pop("title", None)
    return schema, validate, call_name
