"""Chat templates by name: ``read_template(data)`` gives the Jinja of what `data.template` says.

The names are those of the files in ``chat_templates``; anything that ends in ``.jinja`` is a file below `data.root`.
"""

from __future__ import annotations

from pathlib import Path

from autolora.data.files import leaves_folder
from autolora.errors import UserError
from autolora.recipe.schema import Data
from autolora.words import did_you_mean

FOLDER, ENDING = Path(__file__).with_name("chat_templates"), ".jinja"
LARGEST = 2**20  # bytes of a file


def names() -> list[str]:
    """Of the templates that come with the package."""
    return sorted(path.stem for path in FOLDER.glob(f"*{ENDING}"))


def template_path(data: Data) -> Path | None:
    """The file of the template; None where the recipe names none, and the tokenizer's own is meant.

    Args:
        data: The recipe's section.

    Raises:
        UserError: There is no such template.
    """
    name = data.template
    if name is None:
        return None
    if not name.endswith(ENDING):
        if name in names():
            return FOLDER / f"{name}{ENDING}"
        near = did_you_mean(name, names())
        raise UserError(
            f"there is no chat template {name!r}{f'; {near}' if near else ''}; there is: {', '.join(names())}, or a "
            f"file that ends in {ENDING}"
        )
    if leaves_folder(name):
        raise UserError(f"must be a file below data.root, got {name!r}")
    path = Path(data.root or ".") / name
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    return path


def read_template(data: Data) -> str | None:
    """The template's text; None as `template_path`.

    Args:
        data: The recipe's section.

    Raises:
        UserError: There is no such template, or its file is no text.
    """
    if (path := template_path(data)) is None:
        return None
    if path.stat().st_size > LARGEST:
        raise UserError(f"data.template: {path} is larger than any template ({path.stat().st_size} bytes)")
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.template: {path} cannot be read: {error}") from error
