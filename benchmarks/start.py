"""How long autolora takes to begin, beside what it is built on: ``python -m benchmarks.start``.

Two tables, each with contenders that take turns, in processes of their own:

- ``autolora --help`` and ``autolora recipes validate RECIPE`` against ``python -c "import typer, yaml, pydantic"``;
- the first training step on 50 000 rows, against transformers' own way to it on the same file: `load_dataset`, `map`
  with the tokenizer, `Trainer`. Model, batch and rows are the same; autolora's checks and its overview of the data are
  part of its start. Memory is the most that was resident. Neither finds anything of an earlier start.

autolora is compiled to bytecode first, as everything that is installed is: else one that was never imported, or that
PYTHONDONTWRITEBYTECODE keeps from being compiled, would be compiled at every start.

The rows are CoLA's below --data-root, below AUTOLORA_TEST_DATA, or beside the checkout, each with another one behind it
once all have been there; else generated ones. Processor seconds are those of the processes: a busy machine changes them
less than wall seconds.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import autolora
from autolora.console import say
from autolora.model.bundled import bundled_folder
from autolora.tables import to_markdown

ROWS, MODEL = 50_000, "all-MiniLM-L6-v2"
LIBRARIES = "import typer, yaml, pydantic"
TO_FIRST = "to the first step"
TO_REACH = {"autolora --help": 1.5, "autolora recipes validate": 3.0, f"autolora {TO_FIRST}": 0.5}
OURS = """
import os, sys
from pathlib import Path
import autolora.bilevel.loop as loop
step = loop.BilevelSearch.advance
def first(self, number):
    step(self, number)
    os._exit(0)
loop.BilevelSearch.advance = first
import autolora
autolora.search("glue-mini/cola", data_root=Path(sys.argv[1]), output=sys.argv[2])
"""
THEIRS = """
import os, sys
from pathlib import Path
import datasets
from transformers import (
    AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainerCallback,
    TrainingArguments,
)
class First(TrainerCallback):
    def on_step_end(self, args, state, control, **more):
        os._exit(0)
root, output, model = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(model)
files = {name: f"{root}/glue/cola/{name}.jsonl" for name in ("train", "validation")}
rows = datasets.load_dataset("json", data_files=files, cache_dir=output)
rows = rows.map(lambda batch: tokenizer(batch["sentence"], truncation=True, max_length=128), batched=True)
arguments = TrainingArguments(output, per_device_train_batch_size=32, report_to=[], disable_tqdm=True)
Trainer(
    AutoModelForSequenceClassification.from_pretrained(model, num_labels=2), arguments,
    DataCollatorWithPadding(tokenizer), rows["train"], rows["validation"], callbacks=[First()],
).train()
"""


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-root", type=Path, help="folder with glue/cola/train.jsonl")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--starts", type=int, default=7, help="of each command")
    parser.add_argument("--first-steps", type=int, default=3, help="of each way to a first step")
    options = parser.parse_args()
    say(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}\n")
    compileall.compile_dir(Path(autolora.__file__).parent, quiet=1)
    python = [sys.executable, "-m", "autolora"]
    commands = {
        f'python -c "{LIBRARIES}"': [sys.executable, "-c", LIBRARIES],
        "autolora --help": [*python, "--help"],
        "autolora recipes validate": [*python, "recipes", "validate", "quickstart"],
    }
    say(table({name: [command] * options.starts for name, command in commands.items()}, TO_REACH))
    with tempfile.TemporaryDirectory() as folder:
        root, data = Path(folder), Path(folder, "data")
        write_rows(data, options.data_root, options.rows)
        turns = range(options.first_steps)
        model = str(bundled_folder(MODEL))
        theirs = [[sys.executable, "-c", THEIRS, str(data), str(root / f"theirs-{i}"), model] for i in turns]
        ours = [[sys.executable, "-c", OURS, str(data), str(root / f"ours-{i}")] for i in turns]
        say(table({f"transformers {TO_FIRST}": theirs, f"autolora {TO_FIRST}": ours}, TO_REACH))


def write_rows(data: Path, given: Path | None, count: int) -> None:
    """So many rows, none of which is there twice, as GLUE's CoLA is laid out."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    source = (given or Path(os.environ.get("AUTOLORA_TEST_DATA", beside))) / "glue" / "cola"
    if given and not source.is_dir():
        raise SystemExit(f"there is no {source}")
    if source.is_dir():
        splits = {name: _read(source / f"{name}.jsonl") for name in ("train", "validation")}
    else:
        from autolora.data.grammar import acceptability

        made = acceptability(seed=0)
        splits = {name: [{"sentence": row.sentence, "label": row.label} for row in rows] for name, rows in made.items()}
    draws, rows = random.Random(0), splits["train"]
    train = [
        {**row, "sentence": row["sentence"] if i < len(rows) else f"{row['sentence']} {draws.choice(rows)['sentence']}"}
        for i, row in ((i, rows[i % len(rows)]) for i in range(count))
    ]
    folder = data / "glue" / "cola"
    folder.mkdir(parents=True)
    for name, found in {"train": train, "validation": splits["validation"]}.items():
        text = "".join(f"{json.dumps({**row, 'idx': i})}\n" for i, row in enumerate(found))
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    say(f"{count} rows of {'CoLA, and pairs of them' if source.is_dir() else 'generated data'}\n")


def _read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(contenders: dict[str, Sequence[Sequence[str]]], to_reach: dict[str, float]) -> str:
    """Medians over the turns, and ratios to the first contender's, each within its turn."""
    names = list(contenders)
    seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    for turn in range(len(contenders[names[0]])):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:  # nobody always goes first
            seen[name].append(measured(contenders[name][turn]))
    rows: list[dict[str, str | int | float | None]] = []
    for name in names:
        middle = [statistics.median(each[i] for each in seen[name]) for i in range(3)]
        against = [
            statistics.median(mine[i] / base[i] for mine, base in zip(seen[name], seen[names[0]], strict=True))
            for i in range(3)
        ]
        rows.append(
            {
                "start": name,
                "wall s": f"{middle[0]:.2f}",
                "ratio": f"{against[0]:.2f}",
                "processor s": f"{middle[1]:.2f}",
                "ratio ": f"{against[1]:.2f}",
                "MiB": f"{middle[2]:.0f}",
                "ratio  ": f"{against[2]:.2f}",
                "to reach": f"{to_reach[name]}" if name in to_reach else "",
            }
        )
    return to_markdown(rows)


def measured(command: Sequence[str]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and MiB of a process, which must end well."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{command[:4]} ended with {process.returncode}:\n{said.read()[-2000:].decode()}")
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit


if __name__ == "__main__":
    main()
