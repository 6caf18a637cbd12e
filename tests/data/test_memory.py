"""A large file is read and encoded in little memory, whatever the lengths of its texts: ``pytest -m slow``."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.own_data import write

SIZE = 351_000_000  # bytes
MOST = 2 * 2**30
SCRIPT = """
import resource, sys
from pathlib import Path
from autolora.context.base import Context
from autolora.experiment.preflight import load_recipe
context = Context(load_recipe(Path(sys.argv[1])), show=False)
context.hashes
examples = context.examples("train")
print(len(examples), max(len(example["input_ids"]) for example in examples))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.fixture
def asked_for(request: pytest.FixtureRequest) -> None:
    """Skips the test unless slow ones are asked for."""
    if "slow" not in request.config.option.markexpr:
        pytest.skip("minutes long; ask for it with -m slow")


@pytest.mark.slow
@pytest.mark.usefixtures("asked_for")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("low", "high"), [(0.5, 6.6), (1.5, 2.3)], ids=["up to megabytes", "short"])
def test_a_file_of_351_mb_takes_less_than_two_gigabytes(tmp_path: Path, minilm: Path, low: float, high: float) -> None:
    recipe = write(tmp_path, tmp_path, {"validation.jsonl": [{"text": "a", "label": 1}]}, max_length=128)
    recipe.write_text(recipe.read_text().replace(str(tmp_path / "model"), "bundled:all-MiniLM-L6-v2"))
    rng, rows, size = random.Random(0), 0, 0
    words = [f"word{i}" for i in range(500)]
    with (tmp_path / "data" / "train.jsonl").open("w", encoding="utf-8") as file:
        while size < SIZE:
            length = int(10 ** rng.uniform(low, high))
            text = " ".join(rng.choices(words, k=200)) + " "
            size += file.write(
                json.dumps({"text": (text * (length // len(text) + 1))[:length], "label": rows % 2}) + "\n"
            )
            rows += 1
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(recipe)], capture_output=True, text=True, check=True)
    counts, peak = done.stdout.splitlines()
    assert counts == f"{rows} 128" if high > 3 else counts.startswith(f"{rows} ")
    assert int(peak) < MOST, f"{int(peak) / 2**30:.2f} GiB"
