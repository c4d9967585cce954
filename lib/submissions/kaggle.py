"""Kaggle's leaderboard, through the official `kaggle` package, which is optional, and the user's own credentials."""

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

SCORE_TIMEOUT = 300.0  # seconds to wait for a score
SCORE_PAUSE = 5.0  # seconds between two requests
NEWEST_SUBMISSIONS = 200  # submissions that are requested


class NotConfigured(Exception):
    """Nothing can be uploaded from here; the message says why."""


@dataclass(frozen=True)
class KaggleScore:
    """A submission as Kaggle lists it. Scores are None until Kaggle has them; `error` says why it never will."""

    file: str
    ref: int
    public: float | None
    private: float | None
    error: str


def log_in():
    """The package's client with the user's credentials. Raises NotConfigured."""
    printed = io.StringIO()  # the package prints how to log in, and ends the process
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            from kaggle.api.kaggle_api_extended import KaggleApi

            api = KaggleApi()
            api.authenticate()
    except ImportError as error:  # some of its releases do not list six, which they need
        raise NotConfigured(f"the kaggle package cannot be used ({error}; pip install kaggle six)") from None
    except (OSError, SystemExit):
        raise NotConfigured("the kaggle package has no credentials, or cannot log in with them") from None
    return api


def kaggle_user() -> str:
    """The user's name on Kaggle; empty where it is unknown."""
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
        """Submit a file. Returns Kaggle's number of the submission, or 0. Raises UserError where Kaggle refuses it."""
        with self._errors(f"refused {path}"):
            answer = self.api.competition_submit(str(path), message, self.slug, quiet=True)
        failed = getattr(self.api, "COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE", "Could not submit")
        if failed in str(answer.message):
            raise UserError(f"{path} did not reach Kaggle ({answer.message}); try again")
        return getattr(answer, "ref", 0) or 0

    def scored(self) -> list[KaggleScore]:
        """The user's submissions, the newest first. Raises UserError where Kaggle does not list them."""
        with self._errors("does not list submissions"):
            found = self.api.competition_submissions(self.slug, page_size=NEWEST_SUBMISSIONS) or []
        return [
            KaggleScore(
                row.file_name, row.ref, _number(row.public_score), _number(row.private_score),
                row.error_description or "",
            )
            for row in found
        ]  # fmt: skip

    @contextlib.contextmanager
    def _errors(self, failure: str):
        try:
            yield
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            raise UserError(
                f"Kaggle {failure}: {' '.join(str(error).split())[:300]}; see that competition.kaggle is right "
                f"({self.slug}), that its rules are accepted, and that it takes files, not notebooks"
            ) from None


def submit(workspace: Workspace, slug: str, path: Path, message: str) -> None:
    """Upload a checked CSV and put its public score into the ledger, or say where to upload it by hand."""
    file = ledger.name_of(workspace, path, add=True)
    path = ledger.path_of(workspace, file)
    ledger.update_row(workspace, file, message=message)
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
        print(f"no score after {SCORE_TIMEOUT:.0f} s; python -m lib ledger CONFIG asks again")
        return
    _fill(workspace, file, scored)
    print(f"public score {scored.public}")


def refresh(workspace: Workspace, slug: str) -> None:
    """Fill in the scores that the ledger lacks and Kaggle has; print a sentence where Kaggle cannot be asked.

    Kaggle lists file names without folders, so files with the same name are left out.
    """
    table = ledger.read_ledger(workspace)
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


def _wait(board: Board, name: str, ref: int) -> KaggleScore | None:
    """The submission with its score, or None after `SCORE_TIMEOUT`. Raises UserError where Kaggle cannot score it.

    A failed request does not raise, since the file is already uploaded.
    """
    end = time.monotonic() + SCORE_TIMEOUT
    while True:
        listed: list[KaggleScore] = []
        with contextlib.suppress(UserError):
            listed = board.scored()
        # Without a number, the newest file of that name.
        found = next((s for s in listed if (s.ref == ref if ref else s.file == name)), None)
        if found and found.error:
            raise UserError(f"Kaggle could not score {name}: {found.error}")
        if found and found.public is not None:
            return found
        if time.monotonic() > end:
            return None
        time.sleep(SCORE_PAUSE)


def _fill(workspace: Workspace, file: str, scored: KaggleScore, boards: Sequence[str] = ("public", "private")) -> None:
    values = {board: getattr(scored, board) for board in boards}
    ledger.update_row(workspace, file, **{column: value for column, value in values.items() if value is not None})


def _number(text: str | None) -> float | None:
    """
    >>> _number("0.71234"), _number("")
    (0.71234, None)
    """
    return float(text) if text else None
