"""The last step of a stream before the caller: guardrails and the undoing of redaction, with the least work.

A piece that nobody changes keeps the provider's own bytes.
"""

from __future__ import annotations

import re
from typing import Any

from interplay.gateway.contract import Grant
from interplay.gateway.wires.base import Piece, ToolPiece, dumps

# A redaction token may be cut in two by the stream. Outside of words they only stand in tool arguments.
_MAYBE_TOKEN = re.compile(r"\[[A-Z0-9_]{0,20}$")


class Incoming:
    """Takes the pieces of one answer. in_tool: the caller has a part of a tool call. opened: it has anything at all."""

    def __init__(self, grant: Grant) -> None:
        self._grant = grant
        self._held: dict[int, str] = {}
        self.in_tool = False
        self.opened = False

    async def take(self, piece: Piece, out: list[Piece]) -> None:
        """Append to `out` what the caller may see of this piece. Raises Denied."""
        if piece.text:
            shown = await self._grant.incoming(piece.text)
            if shown != piece.text:
                piece.text, piece.raw = shown, b""
        if piece.tools or piece.finish or piece.boundary:
            out += await self._rest(piece)
        if piece.reasoning and "[" in piece.reasoning:
            shown = self._grant.restore({"output": piece.reasoning})["output"]
            if shown != piece.reasoning:
                piece.reasoning, piece.raw = shown, b""
        if piece.tools:
            self.in_tool = True
            self._tools(piece)
        elif piece.raw and not piece.text and not piece.reasoning and piece.event is not None:
            self._whole(piece)
        out.append(piece)

    async def words(self, text: str) -> list[Piece]:
        return [Piece(await self._grant.incoming(text))]

    async def finish(self) -> list[Piece]:
        """What was held back, at the end."""
        return await self._rest(Piece(finish="stop"))

    async def _rest(self, piece: Piece) -> list[Piece]:
        rest = []
        if tail := await self._grant.finish():
            rest.append(Piece(tail))
        if piece.finish:
            for index, held in self._held.items():
                if held:
                    rest.append(Piece(tools=(ToolPiece(index, arguments=held),)))
            self._held.clear()
        return rest

    def _tools(self, piece: Piece) -> None:
        changed = False
        tools = []
        for tool in piece.tools:
            text = self._held.pop(tool.index, "") + tool.arguments
            if "[" in text:
                if cut := _MAYBE_TOKEN.search(text):
                    text, self._held[tool.index] = text[: cut.start()], text[cut.start() :]
                text = self._grant.restore({"arguments": text})["arguments"]
            changed = changed or text != tool.arguments
            tools.append(ToolPiece(tool.index, tool.id, tool.name, text))
        if changed:
            piece.tools, piece.raw = tuple(tools), b""

    def _whole(self, piece: Piece) -> None:
        """An event that repeats the whole answer, or a part of it, in a stream that goes through as it is."""
        event: Any = piece.event
        if b"[" not in piece.raw or "type" not in event:
            return
        shown = self._grant.restore(event)
        if shown != event:
            piece.event, piece.raw = shown, dumps(shown)
