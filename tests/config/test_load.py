import pytest

from lib.config import flat, help_text, load, save, saved_config, saved_values
from lib.config.old_names import OLD_NAMES
from lib.errors import UserError


def test_command_line_beats_yaml_beats_defaults(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("train: {epochs: 7, lr: 1e-4}\nplugins: [mine.py]\n")
    config = load(path, ["--train.epochs", "9", "--train.folds", "0", "2", "--train.channels_last=false"])
    assert (config.train.epochs, config.train.lr, config.train.folds) == (9, 1e-4, [0, 2])
    assert config.train.channels_last is False and config.plugins == [str(tmp_path / "mine.py")]
    assert config.train.batch_size == load(None).train.batch_size


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--train.epoch", "3"], "nearest legal name is train.epochs"),
        (["--tile_size", "3"], "nearest legal name is preprocess.tile_size"),
        (["--train.epochs", "abc"], "train.epochs: found 'abc'; input should be a valid number$"),
        (["--competition.multilabel", "maybe"], "multilabel: found 'maybe'; input should be true or false$"),
        (["--train.precision", "fp8"], "'auto', 'fp32'"),
        (["--infer.window", "large"], "infer.window: found 'large'; input should be a valid integer.* or .*'auto'"),
        (["--infer.window", "-1"], "infer.window: found '-1'; .*greater than or equal to 0"),
        (["--infer.members", "greedy"], "unknown option --infer.members; it is now called infer.ensemble_weights"),
        (["--train.sampling.alike", "images"], "it is now called train.sampling.balance"),
        (["--infer.power", "3"], "unknown option --infer.power; it is gone with the power mean"),
        (["--infer.averaging", "power"], "infer.averaging: found 'power'; it is gone, .* write arithmetic"),
        (["--infer.ensemble_weights", "simplex"], "ensemble_weights: found 'simplex'; it is gone, .* write greedy"),
        (["--pseudo.confidence", "entropy"], "pseudo.confidence: found 'entropy'; it is gone, .* write sure"),
        (["--train", "3"], "is a section"),
        (["--train.lr"], "takes one value"),
        (["stray"], "expected an option"),
        (["--preprocess.stride", "9999"], "larger than tile_size"),
        *[
            ([f"--{key}", name], f"{key}: expected a name for files, such as ensemble-2: .*, found")
            for key in ("infer.tag", "train.experiment", "competition.name")
            for name in ("a/b", "..", "a\\b", "a:b", " a", "a.", "a\nb", "a\n", "x" * 101, "")
        ],
    ],
)
def test_mistakes_name_the_key_and_what_was_expected(arguments, what):
    with pytest.raises(UserError, match=what):
        load(None, arguments)


def test_names_for_files_may_hold_dots_and_blanks():
    for name in ("v1.2", "a b", "größer", "x" * 100, "7"):
        assert load(None, ["--infer.tag", name]).infer.tag == name


def test_unknown_yaml_keys_and_files(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("train: {ephocs: 3}\n")
    with pytest.raises(UserError, match="unknown key train.ephocs; the nearest legal name is train.epochs"):
        load(path)
    path.write_text("infer: {weights: [swa]}\n")
    with pytest.raises(UserError, match="a.yaml: unknown key infer.weights; it is now called infer.checkpoints"):
        load(path)
    path.write_text("a: [")
    with pytest.raises(UserError, match="not valid YAML"):
        load(path)
    with pytest.raises(UserError, match="no configuration file"):
        load(tmp_path / "none.yaml")


def test_debug_works_elsewhere_on_less():
    config = load(None, ["--debug"])
    assert config.workspace == "work/demo-debug" and config.preprocess.max_images == 4


def test_every_option_but_the_obvious_is_documented():
    obvious = {"seed", "epochs", "batch_size", "channels_last", "lr", "weight_decay"}
    text = help_text()
    for key in flat(load(None)):
        assert f"--{key} " in text
    undocumented = [block.split()[0] for block in text.split("\n--") if "\n" not in block]
    assert {name.split(".")[-1] for name in undocumented} <= obvious


def test_a_sliver_has_no_time_limit_and_what_its_schedule_needs():
    for sliver in ("--debug", "--preflight"):
        config = load(None, [sliver, "true", "--train.time_limit", "5s", "--train.batch_size", "0"])
        assert config.train.time_limit == 0 and config.train.sampling.samples_per_epoch > 0
        assert load(None, [sliver, "true", "--train.schedule", "plateau", "--train.evaluations", "4"])


def test_a_sliver_needs_nothing_that_only_the_whole_run_has_made():
    flags = ["--clean.use", "true", "--infer.experiments", "base", "half", "--infer.checkpoints", "epochs"]
    config = load(None, ["--preflight", "true", *flags])
    assert not config.clean.use and config.infer.experiments == [] and config.train.checkpoints >= 2


def test_a_list_or_a_section_that_cannot_be_read_is_no_traceback(tmp_path):
    with pytest.raises(UserError, match=r"--train\.seeds: '\[42' cannot be read"):
        load(None, ["--train.seeds", "[42"])
    path = tmp_path / "empty.yaml"
    path.write_text("train:\n")
    assert load(path, ["--train.epochs", "3"]).train.epochs == 3


PLATEAU = ["--train.schedule", "plateau", "--train.evaluations", "2"]


@pytest.mark.parametrize("of_all", [["--train.folds", "0", "all"], ["--infer.folds", "all"]])
def test_members_of_all_images_choose_nothing_by_scores(of_all):
    load(None, PLATEAU)
    load(None, [*of_all, "--infer.checkpoints", "best"])  # which then are the last ones
    with pytest.raises(UserError, match="folds all: .* by the scores of images that are not trained on, and there are"):
        load(None, [*of_all, *PLATEAU])


def test_a_sliver_keeps_the_members_that_judge_those_of_all_images():
    for flag in ("--preflight", "--debug"):
        assert load(None, [flag, "--train.folds", "0", "2", "all"]).train.folds == [0, "all"]
        assert load(None, [flag, "--train.folds", "all"]).train.folds == ["all"]


def test_a_sliver_tries_no_windows_and_views():
    infer = load(None, ["--debug", "--infer.window", "auto", "--infer.tta", "auto"]).infer
    assert (infer.window, infer.tta) == (0, "none")
    assert load(None, ["--infer.window", "auto"]).infer.window == "auto"
    assert load(None, ["--infer.window", "96"]).infer.window == 96


def test_a_sliver_has_the_votes_that_agreement_compares():
    for flag in ("--preflight", "--debug"):
        assert load(None, ["--pseudo.confidence", "agreement", flag]).infer.tta != "none"


@pytest.mark.parametrize("seed", ["-1", "4294967296", "1.5", "x"])
@pytest.mark.parametrize("key", ["folds.seed", "train.seeds"])
def test_a_seed_that_numpy_refuses_is_a_sentence(key, seed):
    with pytest.raises(UserError, match=rf"{key}(\.0)?: found '{seed}'; input should be"):
        load(None, [f"--{key}", seed])
    assert flat(load(None, [f"--{key}", "4294967295"]))[key] in (4294967295, [4294967295])


@pytest.mark.parametrize("line", ["train: 5", "train: [1]", "train: fast", "train: {swa: 5}", "folds: false"])
@pytest.mark.parametrize("flags", [[], ["--train.epochs", "3"], ["--train.swa.start", "0.5"], ["--debug"]])
def test_a_section_that_holds_a_value_is_a_sentence(tmp_path, line, flags):
    path = tmp_path / "a.yaml"
    path.write_text(f"{line}\n")
    with pytest.raises(UserError, match=r"a.yaml: (train|train\.swa|folds) is a section and must hold .* found "):
        load(path, flags)


def test_a_section_without_options_is_at_its_defaults(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("train:\nfolds: {}\nmodel:\n")
    assert load(path) == load(None)
    assert load(path, ["--train.swa.start", "0.5"]).train.swa.start == 0.5


def test_old_names_lead_to_options_of_today():
    legal = flat(load(None))
    assert not set(OLD_NAMES) & set(legal) and set(OLD_NAMES.values()) <= set(legal)
    assert [name for name in OLD_NAMES if name.rpartition(".")[0] != OLD_NAMES[name].rpartition(".")[0]] == []


def test_what_was_saved_is_read_again_and_in_error_names_the_file(tmp_path):
    path = tmp_path / "saved.yaml"
    config = load(None, ["--train.sampling.balance", "images"])
    save(config, path)
    assert saved_config(path) == config
    path.write_text(path.read_text().replace("balance: images", "alike: groups").replace("averaging:", "mean:"))
    assert saved_config(path).train.sampling.balance == saved_values(path)["train"]["sampling"]["balance"] == "groups"
    path.write_text("train: {sampling: {alike: nothing}}\nworkspace: ''")
    with pytest.raises(UserError, match="saved.yaml: train.sampling.balance: found 'nothing'"):
        saved_config(path)
