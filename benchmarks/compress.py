"""Seconds and memory of `autolora compress` on an adapter of a 7B model's size: ``make bench-compress``.

The adapter is drawn: 32 layers with LoRA on all seven projections of Llama-2-7B (hidden 4096, MLP 11008), r = 64, in
bfloat16, 320 MB; singular values fall off as a trained update's do. Each command runs in a process of its own, whose
peak resident size is the kernel's (`ru_maxrss`), beside that of a process that only imports what the command does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from autolora.adapters.tensors import Part, to_bytes, write_tensors
from autolora.lora.stored import CONFIG, TENSORS, WRAPPED
from autolora.tables import Row, to_markdown

HIDDEN, INNER = 4096, 11008
SHAPES = {  # (n, m)
    **{f"self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in "qkvo"},
    **{f"mlp.{name}_proj": (HIDDEN, INNER) for name in ("gate", "up")},
    "mlp.down_proj": (INNER, HIDDEN),
}
COMMANDS = {
    "imports alone": ["--version"],
    "--dry-run": ["--dry-run"],
    "--budget 0.5": ["--budget", "0.5"],
    "--budget keep=0.99": ["--budget", "keep=0.99"],
    "--budget 0.25 --uniform": ["--budget", "0.25", "--uniform"],
}


def write_adapter(folder: Path, layers: int, rank: int) -> None:
    """Draw one, a tensor at a time.

    Args:
        folder: To write.
        layers: How many.
        rank: r.
    """
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    decay = torch.arange(1, rank + 1).float().rsqrt()

    def drawn(rows: int, columns: int, scale: torch.Tensor | float) -> bytes:
        return to_bytes((0.02 * torch.randn(rows, columns, generator=generator) * scale).bfloat16())

    def parts() -> list[Part]:
        found = []
        for layer in range(layers):
            for module, (n, m) in SHAPES.items():
                name = f"{WRAPPED}model.layers.{layer}.{module}"
                found.append(
                    Part(
                        f"{name}.lora_A.weight",
                        "BF16",
                        (rank, n),
                        2 * rank * n,
                        lambda n=n: drawn(rank, n, 1.0),  # type: ignore[misc]
                    )
                )
                found.append(
                    Part(
                        f"{name}.lora_B.weight",
                        "BF16",
                        (m, rank),
                        2 * rank * m,
                        lambda m=m: drawn(m, rank, decay),  # type: ignore[misc]
                    )
                )
        return found

    write_tensors(folder / TENSORS, parts(), {"format": "pt"})
    targets = sorted(name.rpartition(".")[2] for name in SHAPES)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": targets, "bias": "none"}
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")


def measure(arguments: list[str], threads: int) -> tuple[float, float, float]:
    """Run a command.

    Args:
        arguments: After ``autolora``.
        threads: Of torch.

    Returns:
        Seconds, those of them that the processor worked for it, and the peak resident size in MiB.
    """
    command = [sys.executable, "-c", _MEASURED, *arguments]
    start = time.perf_counter()
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, capture_output=True, text=True, check=True
    )
    worked, peak = done.stderr.split()[-2:]
    return time.perf_counter() - start, float(worked), int(peak) * _UNIT / (1 << 20)


_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes that ru_maxrss counts in
_MEASURED = """
import resource, sys
import autolora.adapters.compress
from autolora.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
"""


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="Where there is room for 1 GB; default: a temporary folder.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        adapter = Path(place) / "adapter"
        write_adapter(adapter, options.layers, options.rank)
        rows: list[Row] = []
        for i, (name, arguments) in enumerate(COMMANDS.items()):
            output = Path(place) / str(i)
            target = [] if name == "imports alone" else [str(adapter)]
            written = ["--output", str(output)] if "--budget" in arguments else []
            given = arguments if not target else ["compress", *target, *arguments, *written]
            seconds, worked, peak = measure(given, options.threads)
            size = round((output / TENSORS).stat().st_size / 1e6) if written else None
            rows.append(
                {
                    "command": name,
                    "seconds": f"{seconds:.1f}",
                    "of the processor": f"{worked:.1f}",
                    "peak MiB": round(peak),
                    "MB written": size,
                }
            )
        before = (adapter / TENSORS).stat().st_size / 1e6
    print(f"{options.layers} layers, r = {options.rank}: {before:.0f} MB; {options.threads} thread(s), ", end="")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(to_markdown(rows))


if __name__ == "__main__":
    main()
