"""Uploading through the real `kaggle` package, to a stand-in of Kaggle's HTTP interface on this machine."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lib.__main__ import main
from lib.config import load
from lib.errors import UserError
from lib.submissions import kaggle, ledger
from lib.workspace import Workspace

ANSWER = "id,predicted\nim6,1 5 40 7\nim7,\n"


class StandIn:
    """What Kaggle keeps: uploads by token, submissions newest first. A new one is scored at the `slow`th look."""

    def __init__(self):
        self.uploads: dict[str, bytes] = {}
        self.submissions: list[dict] = []
        self.slow, self.looks, self.refuse, self.broken, self.deaf = 3, 0, "", "", False
        self.kernel: dict = {}

    def answer(self, verb: str, asked: dict) -> dict:
        if self.refuse:
            return {"code": 403, "message": self.refuse}
        if verb == "SaveKernel":
            self.kernel = asked
            return {"versionNumber": 1}
        assert asked["competitionName"] == "discs"
        if verb == "StartSubmissionUpload":
            token = f"token{len(self.uploads)} {asked['fileName']}"
            return {"token": token, "createUrl": f"{self.url}/upload/{token.replace(' ', '/')}"}
        if verb == "CreateSubmission":
            file = asked["blobFileTokens"].split()[1]
            new = {"ref": 900 + len(self.submissions), "fileName": file, "status": "PENDING",
                   "description": asked["submissionDescription"], "date": "2026-01-02T03:04:05Z"}  # fmt: skip
            self.submissions.insert(0, new)
            return {"message": "Successfully submitted", "ref": new["ref"]}
        assert verb == "ListSubmissions"
        self.looks += 1
        if self.deaf and self.looks == 1:
            return {"code": 503, "message": "Service unavailable"}
        if self.submissions and self.looks >= self.slow:
            if self.broken:
                self.submissions[0].update(status="ERROR", errorDescription=self.broken)
            else:
                self.submissions[0].update(status="COMPLETE", publicScore="0.61234")
        return {"submissions": self.submissions, "nextPageToken": ""}


def serve(stand_in):
    class Handler(BaseHTTPRequestHandler):
        def body(self):
            return self.rfile.read(int(self.headers["Content-Length"]))

        def reply(self, content: dict):
            data = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self):
            assert self.path.startswith(("/v1/competitions.CompetitionApiService/", "/v1/kernels.KernelsApiService/"))
            assert self.headers["Authorization"].startswith("Basic ")
            self.reply(stand_in.answer(self.path.rpartition("/")[2], json.loads(self.body())))

        def do_PUT(self):
            stand_in.uploads[self.path] = self.body()
            self.reply({})

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    """No credentials, whoever runs this."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home/.kaggle"))
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def board(no_account, monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    monkeypatch.setenv("KAGGLE_KEY", "0" * 32)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pytest.importorskip("kaggle")
    from kagglesdk import kaggle_env

    stand_in = StandIn()
    server = serve(stand_in)
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, stand_in.url)
    monkeypatch.setattr(kaggle, "SCORE_PAUSE", 0.01)
    yield stand_in
    server.shutdown()


@pytest.fixture
def answer(tiny):
    path = tiny.parent / "mine.csv"
    path.write_text(ANSWER)
    return path


def submit(tiny, answer, *more):
    main(["submit", str(tiny), str(answer), "-m", "two discs", "--competition.kaggle", "discs", *more])


def row(tiny):
    return ledger.read_ledger(Workspace(tiny.parent / "work")).iloc[-1]


def test_an_answer_is_uploaded_and_its_score_awaited(tiny, answer, board, capsys):
    submit(tiny, answer)
    assert list(board.uploads.values()) == [ANSWER.encode()]
    assert board.looks == 3 and board.submissions[0]["description"] == "two discs"
    assert "public score 0.61234" in capsys.readouterr().out
    assert (row(tiny).public, row(tiny).message, row(tiny).file) == (0.61234, "two discs", str(answer))

    # The competition has ended: the private score appears; submissions of the same name are not confused.
    board.submissions[0]["privateScore"] = "0.58"
    board.submissions.append({**board.submissions[0], "ref": 1, "publicScore": "0.1", "privateScore": "0.1"})
    main(["ledger", str(tiny), "--competition.kaggle", "discs"])
    assert (row(tiny).public, row(tiny).private) == (0.61234, 0.58)
    board.looks = 0
    main(["ledger", str(tiny), "--competition.kaggle", "discs"])
    assert board.looks == 0, "nothing is unknown any more"


def test_without_a_file_the_last_submission_is_uploaded_under_its_own_name(tiny, answer, board):
    workspace = Workspace(tiny.parent / "work")
    workspace.submissions.mkdir(parents=True)
    for path in (workspace.submission, workspace.submissions / "20260102-030405_ensemble.csv"):
        path.write_bytes(answer.read_bytes())
    about = {"members": ["m"], "oof_score": 0.7, "oof_score_crossed": 0.6, "seconds": 1.0, "code": "", "decision": {}}
    ledger.record(workspace, path, load(tiny), about)
    main(["submit", str(tiny), "--competition.kaggle", "discs", "-m", "--the last--"])
    assert board.submissions[0]["fileName"] == path.name and board.submissions[0]["description"] == "--the last--"
    assert (row(tiny).cross, row(tiny).public, len(ledger.read_ledger(workspace))) == (0.6, 0.61234, 1)


def test_a_score_that_takes_long_is_found_later(tiny, answer, board, capsys, monkeypatch):
    monkeypatch.setattr(kaggle, "SCORE_TIMEOUT", 0.0)
    submit(tiny, answer)
    assert "no score after" in capsys.readouterr().out and row(tiny).isna().public
    board.looks = board.slow
    main(["ledger", str(tiny), "--competition.kaggle", "discs"])
    assert row(tiny).public == 0.61234 and "0.6123" in capsys.readouterr().out


def test_a_look_that_fails_does_not_undo_an_upload(tiny, answer, board):
    board.deaf = True
    submit(tiny, answer)
    assert board.looks == 3 and row(tiny).public == 0.61234


def test_files_that_share_a_name_and_known_scores_are_left_as_they_are(tiny, answer, board, capsys):
    other = tiny.parent / "other" / answer.name
    other.parent.mkdir()
    other.write_text(ANSWER.replace("1 5", "1 6"))
    alone = tiny.parent / "alone.csv"
    alone.write_text(ANSWER.replace("1 5", "1 7"))
    workspace = Workspace(tiny.parent / "work")
    for path, public in ((answer, 0.70), (other, 0.75), (alone, 0.5)):
        ledger.update_row(workspace, ledger.name_of(workspace, path, add=True), public=public)
    board.submissions = [
        {"ref": i, "fileName": name, "status": "COMPLETE", "description": "", "date": "2026-01-02T03:04:05Z",
         "publicScore": score, "privateScore": "0.4"}
        for i, (name, score) in enumerate([("mine.csv", "0.75"), ("mine.csv", "0.70"), ("alone.csv", "0.51")])
    ]  # fmt: skip
    board.slow = 99
    main(["ledger", str(tiny), "--competition.kaggle", "discs"])
    table = ledger.read_ledger(workspace)
    assert list(table["public"]) == [0.70, 0.75, 0.5]
    assert list(table["private"].isna()) == [True, True, False] and table["private"][2] == 0.4
    assert capsys.readouterr().out.count("several files are named mine.csv") == 1


def test_what_kaggle_refuses_is_said_in_a_sentence(tiny, answer, board, capsys):
    board.broken = "Evaluation Exception: Submission must have 2 rows"
    with pytest.raises(UserError, match="could not score mine.csv: Evaluation Exception"):
        submit(tiny, answer)
    assert row(tiny).isna().public
    board.refuse = "You must accept this competition's rules"
    with pytest.raises(UserError, match="refused .*mine.csv: You must accept"):
        submit(tiny, answer)
    main(["ledger", str(tiny), "--competition.kaggle", "discs"])
    out = capsys.readouterr().out
    assert "not asked for scores" in out and "mine.csv" in out
    answer.write_text("id,predicted\nim7,\nim6,\n")
    uploads = len(board.uploads)
    with pytest.raises(UserError, match="row 2 is im7"):
        submit(tiny, answer)
    assert len(board.uploads) == uploads, "a wrong file costs no submission"


def test_without_credentials_it_says_where_to_upload(tiny, answer, no_account, capsys):
    pytest.importorskip("kaggle")
    submit(tiny, answer)
    out = capsys.readouterr().out.splitlines()[-1]
    assert "no credentials" in out and "kaggle.com/competitions/discs/submissions" in out and str(answer) in out


def test_without_the_package_or_a_name_it_says_where_to_upload(tiny, answer, monkeypatch, capsys):
    for name in ("kaggle", "kaggle.api", "kaggle.api.kaggle_api_extended"):
        monkeypatch.setitem(sys.modules, name, None)
    submit(tiny, answer)
    assert "pip install kaggle" in capsys.readouterr().out
    submit(tiny, answer, "--competition.kaggle", "")
    assert "the organiser's page" in capsys.readouterr().out
    assert len(ledger.read_ledger(Workspace(tiny.parent / "work"))) == 1
    main(["ledger", str(tiny), str(answer), "0.7"])
    assert (row(tiny).public, row(tiny).message) == (0.7, "two discs")
    with pytest.raises(UserError, match="needs a message"):
        main(["submit", str(tiny), str(answer)])


def test_a_package_can_be_pushed(tmp_path, board):
    """kernel-metadata.json and the notebook pass the checks of the package that uploads them."""
    from lib.package.kernel import metadata, notebook, title_of

    config = load(None, ["--competition.kaggle", "discs"])
    title = title_of(config)
    dataset, kernel = metadata(config, title)
    assert kernel["id"].startswith("somebody/") and dataset["id"].startswith("somebody/")
    (tmp_path / "kernel-metadata.json").write_text(json.dumps(kernel))
    (tmp_path / kernel["code_file"]).write_text(json.dumps(notebook(config, title, 2)))
    (tmp_path / "dataset-metadata.json").write_text(json.dumps(dataset))
    kaggle.log_in().kernels_push(str(tmp_path))
    assert board.kernel["competitionDataSources"] == ["discs"] and board.kernel["enableInternet"] is False
    assert board.kernel["datasetDataSources"] == [dataset["id"]] and "infer.py" in board.kernel["text"]
