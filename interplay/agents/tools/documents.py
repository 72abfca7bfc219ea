"""Full-text search in a folder of documents, with SQLite's FTS5, in memory, without a model.

What documents say is data: results are marked untrusted, and nothing in them is ever carried out.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

from interplay.agents.tools.tool import Tool, tool
from interplay.background.utterance import content_words
from interplay.core.types import BadInput

SUFFIXES = (".txt", ".md", ".rst", ".markdown")
MAX_FILES, MAX_BYTES, MAX_PASSAGE = 5_000, 2_000_000, 1_200
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'])")
NOTHING = "nothing found"


@dataclass(frozen=True, slots=True)
class Passage:
    """A paragraph that matches. source: its file, relative to the folder. score: lower is better (bm25)."""

    source: str
    text: str
    score: float


class Documents:
    """A folder, indexed when first asked and again when a file has changed. Safe from any thread.

    "~" is the home of whoever runs this. Links that lead out of the folder are not followed. Raises BadInput if there
    is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            self.folder = Path(folder).expanduser().resolve()
        except RuntimeError as error:  # "~nobody"
            raise BadInput(f"no such folder of documents: {folder}: {error}") from error
        if not self.folder.is_dir():
            raise BadInput(f"no such folder of documents: {folder}")
        self._lock = threading.Lock()
        self._stamp: tuple[tuple[str, int, int], ...] | None = None
        self._db: sqlite3.Connection | None = None
        self.left_out = 0

    def search(self, query: str, limit: int = 5) -> list[Passage]:
        """The passages that match any word of the query, best first."""
        words = sorted(content_words(query))
        if not words:
            return []
        match = " OR ".join(f'"{word.replace(chr(34), "")}"' for word in words[:32])
        with self._lock:
            rows = self._index().execute(
                "SELECT source, text, bm25(passages, 2.0, 1.0) AS score FROM passages WHERE passages MATCH ? "
                "ORDER BY score LIMIT ?",
                (match, limit),
            )
            return [Passage(*row) for row in rows]

    def answer(self, query: str) -> Passage | None:
        """The sentence that answers best: the one with most of the query's words, in the best passages; or None.

        A passage that shares only one of several words of the query is no answer.
        """
        wanted = {_stem(word) for word in content_words(query)}
        best: tuple[float, Passage] | None = None
        for rank, passage in enumerate(self.search(query)):
            heading = {_stem(word) for word in content_words(passage.source + " " + passage.text.split("\n")[0])}
            for sentence in SENTENCE.split(" ".join(passage.text.split())):
                words = {_stem(word) for word in content_words(sentence)}
                found = len(wanted & words) + 0.5 * len(wanted & (heading - words))
                score = found - 0.1 * rank - 0.002 * len(sentence)
                if found >= max(1, (len(wanted) + 1) // 2) and (best is None or score > best[0]):
                    best = (score, Passage(passage.source, sentence.lstrip("# "), passage.score))
        return best[1] if best else None

    def _index(self) -> sqlite3.Connection:
        files = self._files()
        stamp = tuple((str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files)
        if self._db is None or stamp != self._stamp:
            database = sqlite3.connect(":memory:", check_same_thread=False)
            database.execute("CREATE VIRTUAL TABLE passages USING fts5(source, text, tokenize='porter unicode61')")
            for file in files:
                source = str(file.relative_to(self.folder))
                text = file.read_text(encoding="utf-8", errors="replace")
                database.executemany("INSERT INTO passages VALUES (?, ?)", [(source, p) for p in passages(text)])
            self._db, self._stamp = database, stamp
        return self._db

    def _files(self) -> list[Path]:
        found = []
        self.left_out = 0
        for path in sorted(self.folder.rglob("*")):
            if path.suffix.lower() not in SUFFIXES or not path.is_file():
                continue
            inside = path.resolve().is_relative_to(self.folder)
            if not inside or path.stat().st_size > MAX_BYTES or len(found) >= MAX_FILES:
                self.left_out += 1
                continue
            found.append(path)
        return found


def passages(text: str) -> list[str]:
    """Paragraphs, headings with what follows them, long ones cut at sentences."""
    out: list[str] = []
    heading = ""
    for block in re.split(r"\n\s*\n", text):
        block = block.strip()
        if not block:
            continue
        if block.startswith("#") and "\n" not in block:
            heading = block
            continue
        whole = f"{heading}\n{block}" if heading else block
        while len(whole) > MAX_PASSAGE:
            cut = max(whole.rfind(". ", 0, MAX_PASSAGE) + 1, MAX_PASSAGE // 2)
            out.append(whole[:cut].strip())
            whole = whole[cut:].strip()
        out.append(whole)
    return out


def documents(folder: str | Path) -> Tool:
    """The tool over one folder; which folder is the agent's business, not the model's."""
    library = Documents(folder)

    @tool(name="documents", scopes=("documents.read",), untrusted=True)
    def search(query: str) -> str:
        """Search the person's documents for what a question asks. Returns the best sentence and the passages."""
        best = library.answer(query)
        if best is None:
            return NOTHING
        found = [f"[{p.source}] {p.text}" for p in library.search(query, 3)]
        return "\n".join([best.text, "", *found])

    return search


def _stem(word: str) -> str:
    """Enough of a stem to let "founded" meet "founder" and "opens" meet "open"."""
    for ending in ("ing", "ed", "er", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word
