"""What was sent to a tracker, so that nothing is sent twice: ``RUN/tracking/TRACKER.jsonl``.

The first line says by what the tracked run is gone on with; each further one, of what a digest was sent, before it is:
whoever is killed in between has a step less in the tracker, and not one twice.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from autolora.files import write_atomic
from autolora.training.log import whole_lines


class Journal:
    """The file of one tracker of one run.

    Args:
        path: It need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id: str | None = None
        self.number = 1  # of the tracked run: another is begun where what was sent has become wrong
        self.folder: str | None = None
        self._sent: dict[str, str] = {}
        lines = whole_lines(path.read_text(encoding="utf-8")) if path.is_file() else []
        if lines:
            head = json.loads(lines[0])
            self.run_id, self.number, self.folder = head["run"], head["number"], head["folder"]
            for line in lines[1:]:
                entry = json.loads(line)
                self._sent[entry["what"]] = entry["digest"]
            self._end_line()

    def begin(self, run_id: str, folder: str) -> None:
        """Note the tracked run; of one that is known already, nothing is forgotten.

        Args:
            run_id: What it is gone on with by.
            folder: Where the tracker writes.
        """
        if (run_id, folder) == (self.run_id, self.folder):
            return
        self.run_id, self.folder = run_id, folder
        self.path.parent.mkdir(parents=True, exist_ok=True)
        head = {"run": run_id, "number": self.number, "folder": folder}
        entries = [{"what": what, "digest": digest} for what, digest in self._sent.items()]
        write_atomic(self.path, "".join(json.dumps(each) + "\n" for each in (head, *entries)))

    def forget(self) -> None:
        """All that was sent is of a tracked run that is not gone on with."""
        self.run_id, self.number = None, self.number + 1
        self._sent = {}

    def digest(self, what: str) -> str:
        """Of what was sent under a name; "" where nothing was.

        Args:
            what: A log and step, or a stage.
        """
        return self._sent.get(what, "")

    def note(self, what: str, digest: str) -> None:
        """Note that something is sent; with "" as digest, that it was not.

        Args:
            what: See `digest`.
            digest: From `digest_of`.
        """
        self._sent[what] = digest
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps({"what": what, "digest": digest}) + "\n")

    def _end_line(self) -> None:
        """Cut off half a line that a killed process has left."""
        data = self.path.read_bytes()
        if not data.endswith(b"\n"):
            write_atomic(self.path, data[: data.rfind(b"\n") + 1])


def digest_of(content: Any) -> str:
    """A short hash of something JSON-able.

    Args:
        content: It.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
