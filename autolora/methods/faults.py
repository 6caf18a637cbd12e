"""What goes wrong while a run's adapter is loaded, as one message: ``with explained(run): …``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

from autolora.causes import is_memory
from autolora.errors import UserError
from autolora.runs.store import Run


@contextmanager
def explained(run: Run) -> Iterator[None]:
    """Says how the adapter is written anew.

    Args:
        run: Whose adapter is loaded.

    Raises:
        UserError: Something went wrong.
    """
    adapter, again = run.path / "adapter", f"write it anew with: autolora retrain {run.path}"
    try:
        yield
    except UserError as error:
        raise error if str(error).endswith(again) else UserError(f"{error}; {again}") from error
    except KeyError as error:  # PEFT's, for a tensor that it looks for
        raise UserError(f"{adapter} lacks {error}; {again}") from error
    except (MemoryError, RuntimeError) as error:
        if is_memory(error):
            raise
        raise UserError(f"{adapter} cannot be loaded ({error}); {again}") from error
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(f"{adapter} cannot be loaded ({error}); {again}") from error
