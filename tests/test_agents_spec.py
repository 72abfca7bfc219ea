"""Agent specs: what they may contain, and complaints that name the line."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")

from interplay.agents.checks import SpecError
from interplay.agents.files import dump_spec, load_spec, parse_spec
from interplay.agents.spec import AgentSpec, Instructions, ModelSlots, ToolSpec, VoiceSpec
from interplay.core.types import BadInput

FULL = """\
name: ada
description: A calm companion
instructions:
  foreground: be kind and brief
  background: |
    Look things up.
    Name your sources.
voice: {name: heart, speed: 1.1}
proactivity: 0.3
tools:
  - calculator
  - name: documents
    scopes: [files.read]
    options: {folder: notes}
  - name: weather
    command: [weather-server, --stdio]
    env: [WEATHER_KEY]
    scopes: [net]
    approve: true
surface: [browser, phone]
models: {foreground: native, background: auto, vision: some/model, summary: none}
budget: household
policy: careful
"""


def test_a_full_spec_survives_the_way_through_a_file(tmp_path: Path) -> None:
    spec = parse_spec(FULL)
    assert spec.tools[0] == ToolSpec("calculator")
    assert spec.tools[2] == ToolSpec(
        "weather", ("net",), True, command=("weather-server", "--stdio"), env=("WEATHER_KEY",)
    )
    assert spec.instructions.background == "Look things up.\nName your sources.\n"
    assert (spec.proactivity, spec.models.vision, spec.budget, spec.policy) == (
        0.3,
        "some/model",
        "household",
        "careful",
    )
    (tmp_path / "ada.yaml").write_text(dump_spec(spec))
    assert load_spec(tmp_path / "ada.yaml") == spec
    assert AgentSpec.from_dict(spec.to_dict()) == spec
    assert AgentSpec.from_dict(AgentSpec("bo").to_dict()) == AgentSpec("bo")


def test_python_makes_the_same_spec(tmp_path: Path) -> None:
    path = tmp_path / "bo.py"
    path.write_text(
        "from interplay.agents import AgentSpec\n"
        "from interplay.agents.spec import Instructions\n"
        "agent = AgentSpec('bo', instructions=Instructions('be brief'), tools=('calculator',), proactivity=0)\n"
    )
    assert load_spec(path) == AgentSpec("bo", instructions=Instructions("be brief"), tools=(ToolSpec("calculator"),),
                                        proactivity=0)  # fmt: skip
    path.write_text("x = 1\n\nagent = None / 2\n")
    with pytest.raises(BadInput, match=r"bo\.py line 3: TypeError"):
        load_spec(path)
    path.write_text("agent = 7\n")
    with pytest.raises(BadInput, match="must define"):
        load_spec(path)
    path.write_text("def (:\n")
    with pytest.raises(BadInput, match="line 1"):
        load_spec(path)


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        (("proactivity: 0.3", "proactivity: high"), 9, "number from 0 to 1"),
        (("proactivity: 0.3", "proactivity: 1.5"), 9, "number from 0 to 1"),
        (("proactivity: 0.3", "proactivity: yes"), 9, "number from 0 to 1"),
        (("proactivity: 0.3", "proactivity: .nan"), 9, "number from 0 to 1"),
        (("name: ada", "name: Ada Lovelace"), 1, "not a name"),
        (("name: ada", "name: default"), 1, "choose another"),
        (("name: ada", "title: ada"), 1, "not known here"),
        (("speed: 1.1", "speed: 9"), 8, "0.5 to 2"),
        (("- calculator", "- calc ulator"), 11, "tool name"),
        (("- calculator", "- documents"), 12, "listed twice"),
        (("scopes: [net]", "scopes: [NET!]"), 18, "scope"),
        (("scopes: [net]", "scopes: net"), 18, "must be a list"),
        (("approve: true", "approve: perhaps"), 19, "true or false"),
        (("env: [WEATHER_KEY]", "url: http://x.example/"), 15, "either"),
        (("env: [WEATHER_KEY]", "env: [weather key]"), 17, "environment variable"),
        (("options: {folder: notes}", "options: {api_key: abc}"), 14, "secrets do not belong"),
        (("[browser, phone]", "[browser, moon]"), 20, "not a surface"),
        (("budget: household", "budget: [1]"), 22, "must be a name"),
        (("policy: careful", "policy: careful\npolicy: other"), 24, "given twice"),
        (("policy: careful", "policy: *x"), 23, "not allowed"),
        (("policy: careful", "policy: {"), 24, "not YAML"),
        (("policy: careful", "policy: !!python/object:os.system {}"), 23, "tags"),
    ],
)
def test_a_complaint_names_line_and_place(change: tuple[str, str], line: int, says: str) -> None:
    text = FULL.replace(*change)
    assert text != FULL
    with pytest.raises(SpecError) as caught:
        parse_spec(text, source="ada.yaml")
    assert any(p.line == line and says in str(p) for p in caught.value.problems), caught.value.problems
    assert f"line {line}" in str(caught.value) and "\n" not in str(caught.value)


def test_all_complaints_come_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec("name: A B\nproactivity: 7\nvoice: 3\nzzz: 1\n")
    assert {p.line for p in caught.value.problems} == {1, 2, 3, 4}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", "name: 7", "- ada", "\x00", "a: &a [*a]", "[" * 5000, "name: ada\ntools: " + "[" * 200 + "]" * 200,
     "name: ada\ninstructions: {foreground: " + "x" * 20_000 + "}", "name: ada\ntools: [" + "calculator, " * 99 + "]",
     'tools: [{name: x, url: "http://me:secret@x.example/"}]\nname: ada'],
)  # fmt: skip
def test_nothing_in_a_file_becomes_a_traceback(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_spec(text)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_python_values_are_checked_like_files() -> None:
    for make in (
        lambda: AgentSpec("A B"),
        lambda: AgentSpec("a", proactivity=2),
        lambda: AgentSpec("a", voice=VoiceSpec(speed=0)),
        lambda: AgentSpec("a", models=ModelSlots(foreground="")),
        lambda: AgentSpec("a", tools=(ToolSpec("x", python="os.system"),)),
        lambda: AgentSpec("a", surface=("moon",)),
        lambda: AgentSpec("a", instructions=None),  # type: ignore[arg-type]
    ):
        with pytest.raises(SpecError):
            make()


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_bytes(b"#" * 300_000)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("nothing.yaml", "nothing.py", "big.yaml", "binary.yaml", "."):
        with pytest.raises(BadInput):
            load_spec(tmp_path / name)
