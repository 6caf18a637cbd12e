"""A parcel sent to the hub in one commit: ``push(parcel, "owner/name", token)``.

Everything that can be refused is refused before anything is sent (`check_asked`). Nothing of this machine is changed,
whatever the hub says. The token is given to huggingface_hub and is in no message.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import disable_progress_bars, validate_repo_id  # type: ignore[attr-defined]

from autolora.cards.parcel import Parcel
from autolora.errors import UnreachableError, UserError

MESSAGE = "Upload with autolora"
MAIN = "main"
HINTS = {
    401: "the hub does not take the token; make one with write access at https://huggingface.co/settings/tokens",
    403: "the token may not write there; it needs write access to this repository, or to its owner's",
    404: "there is no such repository, or the token may not see it",
    409: "somebody else has changed the repository meanwhile, or it is there with another type; look, and try again",
    413: "it is larger than the hub takes",
    429: "the hub asks for patience; try again later",
}
_TRANSPORT: tuple[type[Exception], ...] = (*HfHubHTTPError.__bases__, OSError)  # with the HTTP library's own base


def check_name(repository: str, option: str = "REPO") -> None:
    """Make sure that a repository can be called so.

    Args:
        repository: ``owner/name``, or a name alone for one of the user's own.
        option: Where it was given.

    Raises:
        UserError: It cannot.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        said = " ".join(str(error).split())
        raise UserError(f"{option}: {repository!r} is no name of a repository: {said}; write owner/name") from None


def read_token(file: Path | None) -> str:
    """The user's token.

    Args:
        file: That has it on its first line; None: HF_TOKEN, or what `hf auth login` has kept.

    Raises:
        UserError: There is none.
    """
    if file is None:
        token = get_token()
        if not token:
            raise UserError(
                "there is no token for the hub: log in with `hf auth login`, set HF_TOKEN, or give --token-file FILE"
            )
        return token
    try:
        lines = file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--token-file: {file} cannot be read: {type(error).__name__}") from None
    if len(lines) != 1 or not lines[0].isascii():
        raise UserError(f"--token-file: {file} must have the token in it, and nothing else")
    return lines[0]


def offline() -> str | None:
    """What says that nothing is to be sent; None where nothing does."""
    if not constants.HF_HUB_OFFLINE:
        return None
    return next((name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)), "HF_HUB_OFFLINE")


def push(
    parcel: Parcel,
    repository: str,
    token: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str = MESSAGE,
) -> str:
    """Send it.

    Args:
        parcel: The files.
        repository: It is made where it is not there; see `check_name`.
        token: The user's, with write access.
        private: Whether nobody else sees a repository that is made.
        revision: A branch, which is made where it is not there; None: main.
        message: Of the commit.

    Returns:
        The address of the commit.

    Raises:
        UnreachableError: The hub cannot be reached, or fails.
        UserError: The hub refuses it.
    """
    api = HfApi(token=token, library_name="autolora")
    disable_progress_bars()
    with _explained(repository, token, "making the repository"):
        made = api.create_repo(repository, private=private or None, exist_ok=True, repo_type="model")
    with _explained(made.repo_id, token, "sending the files"):
        if revision not in (None, MAIN):
            api.create_branch(made.repo_id, branch=str(revision), exist_ok=True)
        done = api.create_commit(
            made.repo_id,
            [CommitOperationAdd(name, of) for name, of in parcel.files.items()],
            commit_message=message,
            revision=revision,
        )
    return str(done.commit_url)


@contextmanager
def _explained(repository: str, token: str, doing: str) -> Iterator[None]:
    """The hub's errors as one message."""
    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(error, repository, token, doing) from None
    except (ValueError, RuntimeError) as error:
        if isinstance(error.__cause__, HfHubHTTPError):  # of one of several files, sent at once
            raise _refused(error.__cause__, repository, token, doing) from None
        if isinstance(error.__cause__, _TRANSPORT):
            raise _unreached(error.__cause__, repository, token, doing) from None
        raise UserError(
            f"{repository}: {doing}: the hub at {constants.ENDPOINT} answered what is not understood "
            f"({_said(error, token)}); look there at what it has. Nothing here has changed"
        ) from None
    except _TRANSPORT as error:
        raise _unreached(error, repository, token, doing) from None


def _refused(error: HfHubHTTPError, repository: str, token: str, doing: str) -> UserError:
    status = error.response.status_code if error.response is not None else 0
    said = " ".join((error.server_message or str(error)).split()).replace(token, "…")[:300]
    hint = HINTS.get(status, "the hub has failed; try again later" if status >= 500 else "")
    text = f"{repository}: {doing}: the hub answered {status}: {said}{f'; {hint}' if hint else ''}"
    return (UnreachableError if status >= 500 else UserError)(f"{text}. Nothing here has changed")


def _unreached(error: BaseException, repository: str, token: str, doing: str) -> UserError:
    return UnreachableError(
        f"{repository}: {doing}: {constants.ENDPOINT} cannot be reached ({_said(error, token)}); look at the network, "
        "and try again. Nothing here has changed"
    )


def _said(error: BaseException, token: str) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).replace(token, "…")[:300]
