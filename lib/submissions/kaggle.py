"""Kaggle's leaderboard, through the official `kaggle` package: an optional one, with the user's own credentials."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib.errors import UserError
from lib.submissions import ledger
from lib.workspace import Workspace

PATIENCE = 300.0  # seconds to wait for a score
PAUSE = 5.0  # seconds between two looks
NEWEST = 200  # submissions that are looked at


class NotConfigured(Exception):
    """Nothing can be uploaded from here; the message says why."""


@dataclass(frozen=True)
class Scored:
    """A submission as Kaggle lists it. Scores are None until it has them, `error` says why it never will."""

    file: str
    ref: int
    public: float | None
    private: float | None
    error: str


def log_in():
    """The package's client with the user's credentials. Raises NotConfigured."""
    told = io.StringIO()  # the package prints how to log in, and ends the process
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            from kaggle.api.kaggle_api_extended import KaggleApi

            api = KaggleApi()
            api.authenticate()
    except ImportError as error:  # its releases have forgotten to ask for six
        raise NotConfigured(f"the kaggle package cannot be used ({error}; pip install kaggle six)") from None
    except (OSError, SystemExit):
        raise NotConfigured("the kaggle package has no credentials, or cannot log in with them") from None
    return api


def kaggle_user() -> str:
    """The user's name on Kaggle; empty where it is not known."""
    try:
        api = log_in()
    except NotConfigured:
        return ""
    return api.get_config_value(api.CONFIG_NAME_USER) or ""


class Board:
    """One competition's submissions on Kaggle. Raises NotConfigured without the package, credentials or a name."""

    def __init__(self, slug: str):
        if not slug:
            raise NotConfigured("competition.kaggle names no competition")
        self.api = log_in()
        self.slug = slug

    def upload(self, path: Path, message: str) -> int:
        """Submit a file; Kaggle's number of the submission, 0 where it tells none. Raises UserError when refused."""
        with self._errors(f"refused {path}"):
            answer = self.api.competition_submit(str(path), message, self.slug, quiet=True)
        failed = getattr(self.api, "COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE", "Could not submit")
        if failed in str(answer.message):
            raise UserError(f"{path} did not reach Kaggle ({answer.message}); try again")
        return getattr(answer, "ref", 0) or 0

    def scored(self) -> list[Scored]:
        """The user's submissions, the newest first. Raises UserError when Kaggle does not tell."""
        with self._errors("does not list submissions"):
            found = self.api.competition_submissions(self.slug, page_size=NEWEST) or []
        return [
            Scored(s.file_name, s.ref, _number(s.public_score), _number(s.private_score), s.error_description or "")
            for s in found
        ]

    @contextlib.contextmanager
    def _errors(self, what: str):
        try:
            yield
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            raise UserError(
                f"Kaggle {what}: {' '.join(str(error).split())[:300]}; see that competition.kaggle is right "
                f"({self.slug}), that its rules are accepted, and that it takes files, not notebooks"
            ) from None


def submit(workspace: Workspace, slug: str, path: Path, message: str) -> None:
    """Upload a checked CSV and put its public score into the ledger, or say where to upload it by hand."""
    file = ledger.name_of(workspace, path, add=True)
    path = ledger.path_of(workspace, file)
    ledger.fill(workspace, file, message=message)
    try:
        board = Board(slug)
    except NotConfigured as reason:
        where = f"https://www.kaggle.com/competitions/{slug}/submissions" if slug else "the organiser's page"
        print(
            f"not uploaded, since {reason}: upload {path} at {where}, then put its score into the ledger with "
            f"python -m lib ledger CONFIG {file} PUBLIC"
        )
        return
    ref = board.upload(path, message)
    print(f"{path} is uploaded to {slug}; waiting for its score", flush=True)
    scored = _wait(board, path.name, ref)
    if scored is None:
        print(f"no score after {PATIENCE:.0f} s; python -m lib ledger CONFIG asks again")
        return
    _fill(workspace, file, scored)
    print(f"public score {scored.public}")


def refresh(workspace: Workspace, slug: str) -> None:
    """Put the scores that Kaggle knows by now where the ledger has none; where Kaggle cannot be asked, say so.

    Kaggle tells names without folders: files that share theirs are left out.
    """
    table = ledger.read(workspace)
    unknown = table[table["public"].isna() | table["private"].isna()]
    if not slug or unknown.empty:
        return
    try:
        listed = Board(slug).scored()
    except (NotConfigured, UserError) as reason:
        print(f"Kaggle is not asked for scores: {reason}")
        return
    names = table["file"].map(lambda file: Path(file).name)
    shared = set(names[names.duplicated()])
    for name in sorted(shared & set(names[unknown.index])):
        print(f"several files are named {name}: python -m lib ledger CONFIG FILE PUBLIC puts in their scores")
    for row in unknown.to_dict("records"):
        name = Path(row["file"]).name
        found = next((s for s in listed if s.file == name and s.public is not None), None)
        if found and name not in shared:
            _fill(workspace, row["file"], found, [board for board in ("public", "private") if pd.isna(row[board])])


def _wait(board: Board, name: str, ref: int) -> Scored | None:
    """The submission with its score; None when `PATIENCE` ends before it has one. Raises UserError if it never will.

    A look that fails is no reason to fail: the file is uploaded.
    """
    end = time.monotonic() + PATIENCE
    while True:
        listed: list[Scored] = []
        with contextlib.suppress(UserError):
            listed = board.scored()
        # Without a number the newest of that name.
        found = next((s for s in listed if (s.ref == ref if ref else s.file == name)), None)
        if found and found.error:
            raise UserError(f"Kaggle could not score {name}: {found.error}")
        if found and found.public is not None:
            return found
        if time.monotonic() > end:
            return None
        time.sleep(PAUSE)


def _fill(workspace: Workspace, file: str, scored: Scored, boards: Sequence[str] = ("public", "private")) -> None:
    values = {board: getattr(scored, board) for board in boards}
    ledger.fill(workspace, file, **{column: value for column, value in values.items() if value is not None})


def _number(text: str | None) -> float | None:
    """
    >>> _number("0.71234"), _number("")
    (0.71234, None)
    """
    return float(text) if text else None
