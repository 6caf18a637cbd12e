"""Seconds that the slow metrics take on WebNLG's test set: ``python -m benchmarks.scoring``.

The outputs are made of the test set itself: references of which words were moved and lost, triples written out, and
references of other examples, so that TER has shifts to try. Each metric is computed once over all examples. TER is also
compared with sacrebleu's own, in turns over slices of the examples, as far as --seconds go; the edits must be the same.

METEOR is scored three times, as an evaluation by category does (seen, unseen, all), and the Java processes are counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sacrebleu.metrics.ter import TER

from autolora.console import say
from autolora.metrics import edit_rate
from autolora.metrics.compute import score
from autolora.metrics.edit_rate import Rate
from autolora.metrics.text import by_position, one_meteor

SLICES = 60


def main() -> None:
    """Print a line for each metric."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-root", type=Path, help="folder with webnlg/test.jsonl")
    parser.add_argument("--seconds", type=float, default=240.0, help="of comparing TER with sacrebleu's")
    options = parser.parse_args()
    say(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    outputs, references = written(options.data_root)
    say(f"{len(outputs)} outputs, {sum(map(len, references))} references")
    timed("ter", outputs, references)
    compare(outputs, references, options.seconds)
    if shutil.which("java") is None:
        say("no Java: METEOR and the PTB tokens are left out")
        return
    begun: list[str] = []
    start = subprocess.Popen.__init__

    def counted(self: Any, command: Any, *more: Any, **options: Any) -> None:
        begun.append(" ".join(map(str, command)))
        start(self, command, *more, **options)

    half = len(outputs) // 2
    with patch.object(subprocess.Popen, "__init__", counted), one_meteor():
        for part in (slice(None), slice(half), slice(half, None)):
            for name in ("meteor", "rouge_l", "cider"):
                timed(name, outputs[part], references[part])
    for program in ("meteor", "PTBTokenizer"):
        say(f"{sum(program in command for command in begun)} processes of {program}")


def timed(name: str, outputs: list[str], references: list[list[str]]) -> None:
    """Score, and say how long it took."""
    wall, processor = time.perf_counter(), time.process_time()
    (found,) = score([name], outputs, references)
    spent = f"{time.perf_counter() - wall:.1f} s, {time.process_time() - processor:.1f} s of this processor"
    say(f"{name} of {len(outputs)}: {found.value:.6f} in {spent}")


def compare(outputs: list[str], references: list[list[str]], seconds: float) -> None:
    """TER beside sacrebleu's on slices of the examples, processor seconds."""
    end, ours, theirs, done = time.perf_counter() + seconds, 0.0, 0.0, 0
    for first in range(SLICES):
        if time.perf_counter() > end:
            break
        some, truths = outputs[first::SLICES], by_position(references[first::SLICES])
        edit_rate.remembered.cache_clear()  # what the scoring before has counted
        at = time.process_time()
        mine = [Rate(normalized=True).sentence_score(each, texts).num_edits for each, texts in pairs(some, truths)]
        between = time.process_time()
        other = [TER(normalized=True).sentence_score(each, texts).num_edits for each, texts in pairs(some, truths)]
        ours, theirs, done = ours + between - at, theirs + time.process_time() - between, done + len(some)
        if mine != other:
            raise SystemExit(f"the edits of slice {first} are not sacrebleu's")
    spent = f"{ours / theirs:.3f} of its time ({ours:.1f} of {theirs:.1f} s)"
    say(f"ter of {done}: the same edits as sacrebleu's, in {spent}")


def pairs(outputs: list[str], truths: list[list[str]]) -> list[tuple[str, list[str]]]:
    """Each output with its references."""
    return [(each, [texts[i] for texts in truths if texts[i] is not None]) for i, each in enumerate(outputs)]


def written(given: Path | None) -> tuple[list[str], list[list[str]]]:
    """Outputs for the test set, and its references."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = (given or Path(os.environ.get("AUTOLORA_TEST_DATA", beside))) / "webnlg" / "test.jsonl"
    if not path.is_file():
        raise SystemExit(f"there is no {path}; name its folder with --data-root")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    draws = random.Random(1)
    return [_output(row, rows, draws) for row in rows], [row["references"] for row in rows]


def _output(row: dict[str, Any], rows: list[dict[str, Any]], draws: random.Random) -> str:
    kind = draws.random()
    if kind < 0.5:
        words = draws.choice(row["references"]).split()
        cut = draws.randrange(len(words))
        words.insert(draws.randrange(len(words)), words.pop(draws.randrange(len(words))))
        return " ".join(word for word in words[cut:] + words[:cut] if draws.random() > 0.1)
    if kind < 0.8:
        return " ".join(triple.replace("_", " ").replace("|", " ") for triple in row["triples"]) + " ."
    return str(draws.choice(rows)["references"][0])


if __name__ == "__main__":
    main()
