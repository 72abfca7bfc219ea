"""Every real-time provider's own wire format, spoken by scripted servers on loopback: dialects, limits, goodbyes.

Where a provider's address cannot be set from outside (xAI), the address is put in by a subclass of pydantic-ai's
provider; the rest of the way is the one users take.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest

from interplay.core.types import InterplayError
from interplay.foreground.base import ForegroundSpec
from interplay.foreground.realtime import RealtimeForeground, load_realtime
from interplay.foreground.realtime.link import Target
from tests.test_realtime import KEY, Running, Server, converse, openai_target, server  # noqa: F401

pytest.importorskip("pydantic_ai.realtime")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A certificate of our own for 127.0.0.1, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", "key", "-out", "cert"], cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "cert").read_text() + (folder / "key").read_text())
    return str(both)


@pytest.fixture
def gemini(server: Server, certificate: str, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    """Starts a scripted Gemini; Google's SDK speaks TLS only, and takes the certificate from SSL_CERT_FILE."""
    pytest.importorskip("google.genai")

    def start(script: str) -> tuple[Running, Target]:
        running = server("gemini", script, certificate)
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        monkeypatch.setenv("GOOGLE_API_KEY", KEY)
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", f"https://127.0.0.1:{running.port}")
        return running, load_realtime("gemini-live").targets[0]

    return start


async def test_gemini_on_the_clock(gemini: Any) -> None:
    running, target = gemini("answer")
    done = await converse(RealtimeForeground([target], instructions="Be kind."), lambda t: "six" in t.said, after=4)
    assert done.said == "one two three four five six" and 1.6 <= done.loud_s <= 2.4
    assert done.heard == "count to six please"  # though Gemini never says that an utterance is complete
    assert running.log[0]["google"] and "BidiGenerateContent" in running.log[0]["path"]
    assert "Be kind." in str(running.log[1]["setup"])


@pytest.mark.parametrize("script", ["limit", "drop"])
async def test_gemini_goes_away_mid_word_and_the_next_one_goes_on(
    gemini: Any, server: Server, script: str  # noqa: F811
) -> None:
    (_, target), second = gemini(script), server("openai", "answer")
    done = await converse(RealtimeForeground([target, openai_target(second)]), lambda t: "six" in t.said, after=3)
    assert done.said.startswith("one two three one two")
    assert done.actions("link_restored")[0]["gap_s"] < 2
    told = " ".join(str(line.get("text")) for line in second.log if line["kind"] == "item")
    assert "count to six please" in told and "one two three" in told and "interrupted" in told


async def test_a_goodbye_well_ahead_waits_for_the_end_of_the_answer(
    gemini: Any, server: Server  # noqa: F811
) -> None:
    (_, target), second = gemini("leave"), server("openai", "answer")
    foreground = RealtimeForeground([target, openai_target(second)])
    done = await converse(foreground, lambda t: bool(t.actions("link_restored")), after=10)
    assert done.said.startswith("one two three four five six")  # nothing was cut off, nothing is taken up again
    assert done.actions("link_lost")[0]["reason"] == "the provider ends the session"
    assert not any("interrupted" in str(line.get("text")) for line in second.log)


async def test_gemini_takes_the_history_of_another(gemini: Any, server: Server) -> None:  # noqa: F811
    first, (running, target) = server("openai", "drop"), gemini("answer")
    done = await converse(RealtimeForeground([openai_target(first), target]), lambda t: "six" in t.said, after=3)
    assert "six" in done.said and done.actions("link_restored")[0]["target"].startswith("gemini-live")
    told = " ".join(line["text"] for line in running.log if line["kind"] == "item")
    assert "count to six please" in told and "one two three" in told and "at most one short sentence" in told


@pytest.fixture
def dialect(server: Server, certificate: str, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    """Starts a scripted server of this kind, and gives it with a target that leads there."""

    def start(name: str, script: str) -> tuple[Running, Target]:
        tls = name == "azure-realtime"  # pydantic-ai speaks to Azure over TLS only
        running = server(PROTOCOLS[name], script, certificate if tls else "")
        base = f"http{'s' if tls else ''}://127.0.0.1:{running.port}"
        if tls:
            monkeypatch.setenv("SSL_CERT_FILE", certificate)
            monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
            monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", f"{base}/openai/v1")
        elif name == "elevenlabs":
            monkeypatch.setenv("ELEVENLABS_API_KEY", KEY)
            monkeypatch.setenv("ELEVENLABS_BASE_URL", base)
        elif name == "openai-live":
            monkeypatch.setenv("OPENAI_API_KEY", KEY)
            monkeypatch.setenv("OPENAI_BASE_URL", f"{base}/v1")
        else:
            pytest.importorskip("xai_sdk")
            from pydantic_ai.providers.xai import XaiProvider

            monkeypatch.setenv("XAI_API_KEY", KEY)
            monkeypatch.setattr(XaiProvider, "base_url", property(lambda self: f"{base}/v1"))
        return running, load_realtime(name).targets[0]

    return start


PROTOCOLS = {"azure-realtime": "azure", "xai": "xai", "elevenlabs": "elevenlabs", "openai-live": "live"}
ASKED = {
    "azure-realtime": ("/openai/v1/realtime?model=gpt-realtime", ["api-key"]),
    "xai": ("/v1/realtime?model=grok-voice-latest", ["authorization"]),
    "elevenlabs": ("/v1/convai/realtime", ["xi-api-key"]),
    "openai-live": ("/v1/live/sessions", ["authorization"]),
}


@pytest.mark.parametrize("name", PROTOCOLS)
async def test_a_dialect_on_the_clock(dialect: Any, name: str) -> None:
    running, target = dialect(name, "answer")
    foreground = RealtimeForeground([target], instructions="Be kind.")
    done = await converse(foreground, lambda t: "six" in t.said, after=4)
    assert done.said == "one two three four five six" and 1.4 <= done.loud_s <= 2.8
    assert done.heard == "count to six please"
    path, auth = ASKED[name]
    assert running.log[0]["path"].startswith(path) and running.log[0]["auth"] == auth
    assert "Be kind." in str([line for line in running.log if line["kind"] == "session"])


@pytest.mark.parametrize("script", ["drop", "limit"])
@pytest.mark.parametrize("name", PROTOCOLS)
async def test_a_dialect_that_ends_is_followed_by_another(
    dialect: Any, server: Server, name: str, script: str  # noqa: F811
) -> None:
    (_, target), second = dialect(name, script), server("openai", "answer")
    targets = [target, openai_target(second)]
    done = await converse(RealtimeForeground(targets), lambda t: "six" in t.said, after=3)
    assert done.said.startswith("one two three one two") and done.heard.startswith("count to six please")
    assert done.actions("link_restored")[0]["gap_s"] < 2
    told = " ".join(str(line.get("text")) for line in second.log if line["kind"] == "item")
    assert "count to six please" in told and "one two three" in told


@pytest.mark.parametrize("name", PROTOCOLS)
async def test_a_wrong_key_is_one_line_that_does_not_quote_it(dialect: Any, name: str) -> None:
    foreground = RealtimeForeground([dialect(name, "key")[1]])
    with pytest.raises(InterplayError, match=r"refuses the key \(HTTP 401\); check it") as error:
        await foreground.open(ForegroundSpec())
    assert KEY not in str(error.value)
