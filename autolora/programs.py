"""Programs of others that are run: ``program("java")`` is the path of one that lies not in the current folder.

An empty or relative entry of PATH means the folder that a command happens to be given in. Windows looks
there first, too.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def program(name: str) -> str | None:
    """The absolute path of a program; None where no absolute folder of PATH has it.

    Args:
        name: As it is called, without a folder.
    """
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if not Path(folder).is_absolute() or _same(Path(folder), Path.cwd()):
            continue
        found = shutil.which(str(Path(folder) / name))  # with a folder in it, no other one is looked into
        if found is not None:
            return found
    return None


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
