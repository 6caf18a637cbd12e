"""What a run folder may reach: itself, and the runs beside it. Folders come from elsewhere, too.

``check_contained(folder)`` before anything in it is read, ``beside(folder, path)`` for the runs that it names.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from autolora.errors import UserError
from autolora.runs.folders import TUNING

LARGEST = 64 << 20  # bytes of a file that is read as a whole, of which the largest that is written has a few
WHOLE = (".json", ".yaml")
MADE_BY_OTHERS = "autolora makes no such folder; copy what is meant into it, or have it sent anew"


def check_contained(folder: Path) -> None:
    """Make sure that nothing in a run's folder leads out of it, or is more than a run's.

    Args:
        folder: The run's; it may be a link itself.

    Raises:
        UserError: It has a link to somewhere else, something that is no file, or a state file that is too large.
    """
    root = folder.resolve()
    for parent, names, files in os.walk(folder):
        for name in (*names, *files):
            path = Path(parent, name)
            if path.is_symlink() and not _inside(path, root):
                raise UserError(f"{path} is a link that leads out of the run's folder; {MADE_BY_OTHERS}")
            try:
                found = path.stat()
            except FileNotFoundError:  # written under another name in the meantime
                continue
            if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
                raise UserError(f"{path} is neither file nor folder; {MADE_BY_OTHERS}")
            if path.suffix in WHOLE and found.st_size > LARGEST and stat.S_ISREG(found.st_mode):
                raise UserError(f"{path} has {found.st_size >> 20} MiB, and may have {LARGEST >> 20}; {MADE_BY_OTHERS}")


def beside(folder: Path, path: str, what: str) -> Path:
    """The folder of another run that a run names; it belongs to the same recipe, so it lies beside it.

    Args:
        folder: The run's.
        path: From there.
        what: The file that names it, and where in it.

    Returns:
        Its path, without links.

    Raises:
        UserError: It lies elsewhere.
    """
    around = folder.resolve().parent
    around = around.parent if around.name == TUNING else around
    if Path(path).is_absolute() or not _inside(folder / path, around):
        raise UserError(f"{folder / what}: {path!r} leads out of {around}, where the runs of this recipe are")
    return (folder / path).resolve()


def _inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(root)
    except FileNotFoundError:
        return path.resolve().is_relative_to(root) and not path.is_symlink()
    except (OSError, RuntimeError):  # links in a circle
        return False
