"""Writes docs/models.md from the table that the tests try every architecture of.

python -m benchmarks.models            # writes it
python -m benchmarks.models --check    # says whether it is what the table gives
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.model.architecture import FAMILIES, SEQUENCES, Architecture
from tests.model.architectures import ARCHITECTURES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
COMMAND = "python -m benchmarks.models"

HEADER = f"""\
# Your own model, and models that were tried

`model: {{name: …}}` takes a name of the hub, a folder with what `save_pretrained` writes (`./my-model` counts from the
recipe's folder), or `bundled:NAME`; `--model NAME_OR_PATH` puts another into any recipe. Whether autolora can adapt it
is said before anything is trained, and how its tokenizer cuts the rows:

<!-- needs: a recipe and a model of yours -->
```bash
autolora recipes validate mine.yaml
autolora data mine.yaml --model ./my-model
autolora run mine.yaml --model ./my-model
```

## How they were tried

Made by `{COMMAND}` from `tests/model/architectures.py`; `tests/model/test_architectures.py` tries every line:
a tiny random model of the architecture, saved as the class that people's checkpoints are of, with a tokenizer of the
same class and special tokens trained in the test, in float32. In each family that is named, search, retrain and eval
run, and the adapter's logits in stock PEFT, loaded as the README says, are autolora's to 1e-5 of the largest, merged
and unmerged. A family that is not named is refused before the first step, with the reason: an encoder does not generate
text, and some architectures have no model for a task in transformers.

Architectures matter here, sizes do not: `microsoft/deberta-v3-large` is as `microsoft/deberta-v3-base`. How well a
pretrained model learns is not what these tests show.

## What each needs

Nothing but `model: {{name: …}}`. `target_modules` and `head` may be left out; these are the defaults.
"""

COLUMNS = """\
*Targets* get LoRA if `model.target_modules` is left out: PEFT's layers of the architecture, or, where PEFT has none
(*all linear*), every linear layer of the backbone; the screen says which. Any other linear layers may be named, by a
dotted end of their names.

*Head* is what is trained in full beside LoRA with `model.head: auto`, in models of a sequence (classification,
regression) and of its words (tagging). In generation nothing is, unless the recipe names `lm_head`, which
it may where that is not tied to the input embeddings.
"""

OTHERS = """\
## Any other architecture

is tried in the same way before a run begins: its checkpoint must fill the model but for the head, the targets must be
`nn.Linear` or `Conv1D` layers outside the head, and one forward pass must show that the padding does not matter (XLNet
fails there) and that a generator does not see later tokens. Everything that is wrong is said together.

## GGUF files

`bundled:SmolLM2-135M-Instruct` is one, in 4 bits; reading it takes many seconds, most of which go through its
vocabulary. It is converted once on a machine, into an ordinary folder of transformers (weights in float32, tokenizer,
configuration), which every stage and process then loads. What is loaded is the same bit for bit, which is looked at
when the folder is made.

- The folder lies in `$HF_ASSETS_CACHE/autolora`, which is `$HF_HOME/assets` (`~/.cache/huggingface/assets`) unless it
  is set. `autolora doctor` says where that is and how much it holds; removing it costs the time of converting again,
  nothing else.
- Its name is the file's SHA-256 with the versions of transformers, tokenizers, torch, numpy and gguf: another of these
  is another folder. All together take 8 GiB at most; those that were not used for longest go first.
- It is written under a lock and takes its place in one step. Each process holds its files against their SHA-256 before
  it uses them; what a killed process left, or what was changed, is made anew.
- There is nothing in it that could be run. A folder that others than its owner may enter is not used.
- Where nothing can be written (no space, no home), one line says so, and each process converts the file for itself.
"""


def page() -> str:
    """The document."""
    remarks = [f"- **{name}**: {each.remark}." for name, each in ARCHITECTURES.items() if each.remark]
    parts = [HEADER, _table(), COLUMNS, "## Remarks\n\n" + "\n".join(remarks) + "\n", OTHERS]
    return "\n".join(parts)


def _table() -> str:
    titles = (
        "architecture",
        "for instance",
        "families",
        "targets",
        "head: sequence",
        "head: tagging",
        "output embeddings",
    )
    rows = [titles, tuple("---" for _ in titles), *(_row(name, each) for name, each in ARCHITECTURES.items())]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(name: str, each: Architecture) -> tuple[str, ...]:
    targets = _code(each.targets)
    if each.pooled:
        targets += f", and but for tagging {_code(each.pooled)}"
    if not each.listed:
        targets += " (all linear)"
    heads = (_code(each.head.get(kind, ())) for kind in ("sequence", "tagging"))
    return name, _code(each.hub), _families(each), targets, *heads, _output(each)


def _output(each: Architecture) -> str:
    if "generation" not in each.families:
        return ""
    return "tied" if each.tied else "may be a head"


def _families(each: Architecture) -> str:
    if each.families == FAMILIES:
        return "all four"
    if each.families == (*SEQUENCES, "tagging"):
        return "all but generation"
    return ", ".join(each.families)


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def main(arguments: Sequence[str]) -> int:
    """Write the document, or, with --check, compare it."""
    if "--check" not in arguments:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    print(f"docs/models.md is not what the table gives; run: {COMMAND}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
