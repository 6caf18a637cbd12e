"""What is sent to the hub of a run, or of a folder that autolora wrote: ``parcel(run, repository)``.

Only files that belong to the product are in it, never predictions, data, logs or the recipe. What names a folder of
this machine is refused; where that is the pretrained model, its name on the hub takes the folder's place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard

from autolora.adapters.card_file import HERE, is_edited, sealed, unsealed
from autolora.errors import UserError
from autolora.files import json_text, read_json
from autolora.lora.stored import CARD, CONFIG, RECORD, TENSORS, WEIGHTS
from autolora.runs.folders import ranks_file, runs_inside
from autolora.runs.inventory import WHOLE, check_there, verified, verify_below
from autolora.runs.reach import local_paths
from autolora.runs.status import STAGES
from autolora.runs.store import Run

PRODUCT = (CONFIG, TENSORS, WEIGHTS, RECORD, "config.json", CARD)
TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "chat_template.jinja"),
)
NAMED = {CONFIG: "base_model_name_or_path", RECORD: "base_model"}  # where a file names the pretrained model
OF_MERGE, OF_SMALLER = "merged.json", "ranks.json"  # what marks a folder as written by these commands
TEXTS = (".json", ".md", ".jinja", ".txt")


@dataclass(frozen=True)
class Parcel:
    """What is sent.

    Args:
        files: By the name in the repository: a file, or the content that is sent instead of one.
        notes: What the user should know before.
    """

    files: Mapping[str, Path | bytes]
    notes: tuple[str, ...] = ()

    def sizes(self) -> dict[str, int]:
        """Bytes, by name."""
        return {name: len(of) if isinstance(of, bytes) else of.stat().st_size for name, of in self.files.items()}


def parcel(run: Run, repository: str, base_model: str | None = None) -> Parcel:
    """The adapter of a run, its card, its ranks and its metrics.

    Args:
        run: It must have ended, and its files must be what was written.
        repository: The name that the card tells people to load.
        base_model: What the pretrained model is called on the hub, instead of what the adapter says.

    Raises:
        UserError: The run has not ended, a file is not what was written, or one names a folder of this machine.
    """
    _check_ended(run)
    adapter = run.path / "adapter"
    files = {name: adapter / name for name in (*PRODUCT, *TOKENIZER)}
    ranks = ranks_file(run.path)
    files["ranks.json"] = verified(run.path, ranks.relative_to(run.path).as_posix())
    files["metrics.json"] = verified(run.path, "metrics.json")
    files = {name: path for name, path in files.items() if path.is_file()}
    if CARD not in files:
        raise UserError(f"{adapter} has no {CARD}; write it with: autolora card {run.path}")
    return _changed(files, repository, base_model, _own_folders(run))


def folder_parcel(folder: Path, repository: str, base_model: str | None = None) -> Parcel:
    """What `autolora compress` or `autolora merge` has written.

    Args:
        folder: Its folder.
        repository: See `parcel`.
        base_model: Likewise.

    Raises:
        UserError: It is no such folder, or a file names a folder of this machine.
    """
    merged, smaller = (folder / OF_MERGE).is_file(), (folder / CONFIG).is_file() and (folder / OF_SMALLER).is_file()
    if not merged and not smaller:
        raise UserError(
            f"{folder} is no run, and no folder that autolora compress or autolora merge wrote; name one of these"
            f"{runs_inside(folder)}"
        )
    names = [*PRODUCT, *TOKENIZER, "generation_config.json", "ranks.json", "compressed.json"]
    if merged:
        names += sorted(path.name for path in folder.glob("model*.safetensors*"))
    files = {name: folder / name for name in names if (folder / name).is_file()}
    found = _changed(files, repository, base_model, {"your home folder": str(Path.home())})
    return (
        found
        if CARD in files
        else Parcel(found.files, (*found.notes, f"{folder} has no {CARD}, which says what it is"))
    )


def _check_ended(run: Run) -> None:
    check_there(run.path, WHOLE, *STAGES)
    stages = run.status()["stages"]
    left = [name for name in STAGES if stages.get(name, {}).get("state", "success") != "success"]
    left += [name for name in STAGES[1:] if name not in stages]
    if left:
        raise UserError(f"{run.path} has not ended: {left[0]} is still to do; run: autolora run {run.path} --resume")
    if str(stages["eval"].get("at", "")) < str(stages["retrain"].get("at", "")):
        raise UserError(f"{run.path} was retrained after its evaluation; measure it: autolora eval {run.path}")
    verify_below(run.path, "adapter")


def _own_folders(run: Run) -> dict[str, str]:
    """Folders of this machine that nothing may name, by what they are."""
    found = {field: path for field, path in local_paths(run.recipe).items() if Path(path).is_absolute()}
    return {**found, "the run": str(run.path.resolve()), "your home folder": str(Path.home())}


def _changed(files: Mapping[str, Path], repository: str, base_model: str | None, folders: Mapping[str, str]) -> Parcel:
    """With the names that hold elsewhere."""
    found: dict[str, Path | bytes] = dict(files)
    notes: list[str] = []
    for name, key in NAMED.items():
        if name in files:
            content = read_json(files[name])
            if base_model is not None and content.get(key) != base_model:
                found[name] = f"{json_text({**content, key: base_model, 'revision': None})}\n".encode()
            else:
                notes += _check_base(str(content.get(key) or ""), files[name])
    if CARD in files:
        found[CARD] = _card(files[CARD], repository, base_model)
    for name, of in found.items():
        if name.endswith(TEXTS):
            _check_leaks(name, of if isinstance(of, bytes) else of.read_bytes(), folders)
    return Parcel(found, tuple(notes))


def _check_base(name: str, file: Path) -> Iterator[str]:
    """Whether others can load the pretrained model that an adapter names."""
    if Path(name).is_absolute() or name.startswith((".", "~")) or "\\" in name:
        raise UserError(
            f"{file} names the pretrained model by a folder of this machine, {name}, which nobody else can load; say "
            "what it is called on the hub: --base-model OWNER/NAME"
        )
    if name.startswith("planted:"):
        yield f"the pretrained model {name} can be made by autolora only"


def _card(path: Path, repository: str, base_model: str | None) -> bytes:
    """The card with the repository in its code, and the pretrained model's name on the hub; edited ones, too."""
    text = path.read_text(encoding="utf-8")
    ours = not is_edited(path)
    text = (unsealed(text) if ours else text).replace(HERE, f"adapter = {json.dumps(repository)}", 1)
    text = text.replace("; then, in this folder:", "; then:", 1)
    if base_model is not None:
        text = _with_base(text, base_model)
    return (sealed(text) if ours else text).encode("utf-8")


def _with_base(text: str, base_model: str) -> str:
    """The front matter with another base model; the body as it is, but for our own sentence."""
    card = ModelCard(text)
    before = card.data.get("base_model")
    tags = [tag for tag in card.data.get("tags") or [] if not str(tag).startswith("base_model:")]
    front: dict[str, Any] = yaml.safe_load(card.data.to_yaml()) or {}
    front = {"base_model": base_model, **{key: value for key, value in front.items() if key != "base_model"}}
    if front.get("library_name") == "peft":
        front["tags"] = [*tags, f"base_model:adapter:{base_model}"]
    said = r"(?m)^(.*\bPretrained model: )[^\n]*?\.(?= Classes:|$)"
    body = re.sub(said, lambda found: f"{found[1]}{base_model}.", card.text, count=1)
    if before:
        body = body.replace(f"base_model_name_or_path  # {before}", f"base_model_name_or_path  # {base_model}")
    dumped = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return f"---\n{dumped}---\n{body}"


def _check_leaks(name: str, content: bytes, folders: Mapping[str, str]) -> None:
    text = content.decode("utf-8", "replace")
    for what, folder in folders.items():
        named = re.compile(rf"(?<![\w.~-]){re.escape(folder)}(?![\w-])")  # not the middle of acme/rootcause
        if len(folder) > 1 and (named.search(text) or named.search(text.replace("\\\\", "\\"))):
            raise UserError(
                f"{name} names a folder of this machine, {folder} ({what}), and would be read by everybody; take it "
                f"out{' with --base-model OWNER/NAME' if what == 'model.name' else ''}"
            )
