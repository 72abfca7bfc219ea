"""The agent spec: everything that makes an agent this agent, as one immutable value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from interplay.agents.checks import SpecError, problems


@dataclass(frozen=True, slots=True)
class Instructions:
    """foreground: a few words for the mind that is present (the native model reads at most 48 words in all, memory
    included; a provider reads the whole text). background: as long as it needs to be."""

    foreground: str = ""
    background: str = ""


@dataclass(frozen=True, slots=True)
class VoiceSpec:
    """name: a voice of the session's voice engine. speed: 1.0 is its own pace."""

    name: str = "heart"
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class ModelSlots:
    """Which model does what. background: "auto" takes what is there. vision, summary: "" means the background's."""

    foreground: str = "native"
    background: str = "auto"
    vision: str = ""
    summary: str = ""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """One tool that the agent may use, and how far.

    name: of a built-in tool, or a name for what follows. scopes: what it may touch; empty means what the tool itself
    declares as its minimum. approve: a person says yes before each call. python: "module:function". command: argv of
    an MCP server on stdio. url: of an MCP server over HTTP. env: environment variables that `command` is given.
    token_env: the environment variable that holds the bearer token for `url`. options: arguments of the tool itself.
    """

    name: str
    scopes: tuple[str, ...] = ()
    approve: bool = False
    python: str = ""
    command: tuple[str, ...] = ()
    url: str = ""
    env: tuple[str, ...] = ()
    token_env: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def runs_code(self) -> bool:
        """True if loading this tool starts a program or imports a module that the spec names."""
        return bool(self.python or self.command)


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """What an agent is. Raises SpecError (a BadInput) with every problem when a value cannot be used.

    name: lower-case, unique in a store. proactivity: 0 speaks only when asked, 1 speaks whenever it has something.
    surface: where it may be met; empty means everywhere. budget: dollars per period such as "5/day", or the name of a
    virtual key of the gateway. policy: `[policy.agents.NAME]` of the gateway's config. Both may be "".
    """

    name: str
    description: str = ""
    instructions: Instructions = Instructions()
    voice: VoiceSpec = VoiceSpec()
    proactivity: float = 0.5
    tools: tuple[ToolSpec, ...] = ()
    surface: tuple[str, ...] = ()
    models: ModelSlots = ModelSlots()
    budget: str = ""
    policy: str = ""

    def __post_init__(self) -> None:
        tools = tuple(ToolSpec(tool) if isinstance(tool, str) else tool for tool in self.tools)
        object.__setattr__(self, "tools", tools)  # a built-in tool may be given by its bare name
        found = problems(self._plain(keep=("name", "foreground", "background")))
        if found:
            raise SpecError(found)

    def to_dict(self) -> dict[str, Any]:
        """Plain data (dicts, lists, text, numbers) without what is empty; `from_dict` takes it back."""
        return self._plain()

    def _plain(self, keep: tuple[str, ...] = ()) -> dict[str, Any]:
        data = asdict(self)
        data["tools"] = [_pruned(tool, keep) for tool in data["tools"]]
        return {"name": data.pop("name")} | _pruned(data, keep)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AgentSpec:
        """Build from plain data. Raises SpecError with every problem found."""
        found = problems(data)
        if found:
            raise SpecError(found)
        values = dict(data)
        tools = [{"name": tool} if isinstance(tool, str) else tool for tool in values.pop("tools", ())]
        return cls(
            instructions=Instructions(**values.pop("instructions", {})),
            voice=VoiceSpec(**values.pop("voice", {})),
            models=ModelSlots(**values.pop("models", {})),
            surface=tuple(values.pop("surface", ())),
            tools=tuple(ToolSpec(**_tuples(tool)) for tool in tools),
            **values,
        )


def _tuples(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in tool.items()}


def _pruned(data: Mapping[str, Any], keep: tuple[str, ...] = ()) -> dict[str, Any]:
    """Without empty texts, lists and mappings, and with lists for tuples: what a person would have written."""
    out: dict[str, Any] = {}
    for key, value in data.items():
        plain = _pruned(value, keep) if isinstance(value, Mapping) and key != "options" else value
        plain = list(plain) if isinstance(plain, tuple) else plain
        if key in keep or (plain not in ("", [], {}) and plain is not False):
            out[key] = plain
    return out
