"""Where an adapter is, and what may be read there: ``folder = find_adapter(path)``.

Adapters come from strangers. Nothing is read through a link that leads out of the adapter's folder (or, in a cache of
the Hugging Face hub, out of the repository's), no pickle is opened, and a format that is not PEFT's is named.
"""

from __future__ import annotations

import stat
from pathlib import Path

from autolora.adapters.tensors import TensorFile
from autolora.errors import UserError
from autolora.lora.stored import CONFIG, TENSORS, WRAPPED

LARGEST = 64 << 20  # bytes of a file that is read whole, or carried over
CARRIED = (".json", ".md", ".txt", ".model", ".jinja", ".tiktoken", ".yaml", ".yml")  # tokenizer, card, licence, …
NOT_CARRIED = (CONFIG, "ranks.json", "compressed.json", "written.json", "merged.json", "trainer_state.json")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
DIFFUSERS = "pytorch_lora_weights.safetensors"
SHOWN = 20  # names of adapters in a message
HUB = "hf download NAME --local-dir DIR"


def find_adapter(path: Path) -> Path:
    """The folder of the one adapter that a path means: itself, or that of a run.

    Args:
        path: As it was given.

    Raises:
        UserError: There is none, there are several, or it is of another format; the message says what to do.
    """
    if path.is_file():
        raise _of_file(path)
    if not path.is_dir():
        raise UserError(f"there is no adapter {path}; of one on the hub, make a copy first: {HUB}")
    if (path / CONFIG).is_file():
        return _with_tensors(path)
    if (path / "manifest.json").is_file() and (path / "adapter" / CONFIG).is_file():
        return _with_tensors(path / "adapter")
    if inner := inner_adapters(path):
        shown = [*inner[:SHOWN], *([f"and {len(inner) - SHOWN} more"] if len(inner) > SHOWN else [])]
        raise UserError(
            f"{path} has {len(inner)} adapter{'s' if len(inner) > 1 else ''} in folders of "
            f"{'their' if len(inner) > 1 else 'its'} own: {', '.join(shown)}; name the one that is meant, such as "
            f"{path / inner[0]}"
        )
    for name in (DIFFUSERS, *sorted(each.name for each in path.glob("*.safetensors"))):
        if (path / name).is_file():
            raise _of_file(path / name)
    raise UserError(f"{path} is no adapter: it has no {CONFIG}; name a folder that PEFT's save_pretrained has written")


def inner_adapters(folder: Path) -> list[str]:
    """The folders in a folder that are adapters themselves, from there: those of runs that are in it, too.

    Args:
        folder: Any.
    """
    inner = [*folder.glob(f"*/{CONFIG}"), *folder.glob(f"*/adapter/{CONFIG}")]  # the latter: those of runs
    return sorted(each.parent.relative_to(folder).as_posix() for each in inner)


def check_file(path: Path, largest: int | None = LARGEST) -> None:
    """Make sure that a file of an adapter can be read.

    Args:
        path: The file.
        largest: Bytes that it may have.

    Raises:
        UserError: It is a link that leads out of the folder, no file, or too large.
    """
    root = path.parent.resolve()
    if root.parent.name == "snapshots":  # of the hub's cache, whose files are links to blobs beside it
        root = root.parent.parent
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        raise UserError(f"{path} is a link that leads out of {root}; put a copy of the file there that is meant")
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path} is no file")
    if largest is not None and found.st_size > largest:
        raise UserError(f"{path} has {found.st_size >> 20} MiB, and may have {largest >> 20}")


def beside(folder: Path) -> tuple[list[Path], list[str]]:
    """What lies beside an adapter's own two files: what is carried over, and the names of what is not.

    Args:
        folder: The adapter's.

    Raises:
        UserError: As `check_file`.
    """
    carried, left = [], []
    for path in sorted(folder.iterdir()):
        if path.name in (CONFIG, TENSORS):
            continue
        small = path.suffix in CARRIED or path.name.upper().startswith(("LICENSE", "NOTICE"))
        if path.is_dir() or not small or path.name in NOT_CARRIED:
            left.append(path.name)
        else:
            check_file(path)
            carried.append(path)
    return carried, left


def _with_tensors(folder: Path) -> Path:
    if not (folder / TENSORS).is_file():
        pickled = [path.name for path in sorted(folder.iterdir()) if path.suffix in PICKLES]
        if pickled:
            raise _pickled(folder / pickled[0])
        raise UserError(f"{folder} has no {TENSORS}: the adapter's weights are missing")
    check_file(folder / CONFIG)
    check_file(folder / TENSORS, None)
    return folder


def _pickled(path: Path) -> UserError:
    return UserError(
        f"{path} is a pickle, which can run code when it is opened, so autolora opens none; load the adapter with PEFT "
        "where you trust it, and save it with save_pretrained(…), which writes safetensors"
    )


def _of_file(path: Path) -> UserError:
    """What to say about a file where a folder is expected."""
    if path.suffix in PICKLES:
        return _pickled(path)
    if path.suffix != ".safetensors":
        return UserError(f"{path} is no adapter; name the folder that {CONFIG} is in")
    if path.name == TENSORS:
        return UserError(f"{path}: name its folder, {path.parent}, which has to hold {CONFIG} too")
    check_file(path, None)
    return UserError(f"{path} is {_format(TensorFile(path).entries.keys())}")


def _format(names: object) -> str:
    """Whose format a file is in, by the names of its tensors, and what to do about it."""
    joined = " ".join(map(str, names))  # type: ignore[call-overload]
    if "hada_w1" in joined or "lokr_w1" in joined or "oft_" in joined:
        return "an adapter of LyCORIS (LoHa, LoKr or OFT), and no LoRA; it is not read here"
    if ".lora_down." in joined or ".lora.down." in joined:
        return f"a LoRA in kohya's format, not in PEFT's; kohya's networks/resize_lora.py resizes it, or: {_TO_PEFT}"
    if "lora_A" in joined or "lora_B" in joined:
        return f"a LoRA of diffusers, not in PEFT's format: no {CONFIG} says its scaling; {_TO_PEFT}"
    return "no LoRA that is known here"


_TO_PEFT = (
    "in diffusers, after pipe.load_lora_weights(…), save peft.get_peft_model_state_dict(pipe.transformer) as "
    f"{TENSORS}, {WRAPPED} put in front of its names, and pipe.transformer.peft_config[…].save_pretrained(…) beside it "
    "(pipe.unet where there is one)"
)
