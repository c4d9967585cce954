"""Options of earlier versions: a user is told today's name, and files that an earlier version wrote stay readable."""

from __future__ import annotations

import difflib

OLD_NAMES = {
    "train.sampling.alike": "train.sampling.balance",
    "train.shortest": "train.min_member_time",
    "pseudo.by": "pseudo.confidence",
    "pseudo.sure": "pseudo.pixel_confidence",
    "pseudo.min_sure": "pseudo.min_confidence",
    "clean.confirm": "clean.in_sample_weight",
    "clean.bad": "clean.on_bad_label",
    "infer.weights": "infer.checkpoints",
    "infer.members": "infer.ensemble_weights",
    "infer.mean": "infer.averaging",
    "infer.pays": "infer.min_gain",
    "infer.decide": "infer.postprocess",
}
"""Old name -> today's name, in the same section."""

REMOVED = {"infer.power": "it is gone with the power mean, which scored less than the arithmetic mean"}
"""Option that exists no more -> why."""
REMOVED_VALUES = {
    ("pseudo.confidence", "entropy"): "it is gone, because it chose the same tiles as sure; write sure",
    ("infer.ensemble_weights", "simplex"): "it is gone, because equal weights scored more; write greedy",
    ("infer.averaging", "power"): "it is gone, because it scored less than the arithmetic mean; write arithmetic",
}
"""(option, value that it takes no more) -> why, and what to write."""
# These values chose tiles and weights that are stored. What reads the options later needs neither.
_READ_AS = {("pseudo.confidence", "entropy"): "sure", ("infer.ensemble_weights", "simplex"): "greedy"}


def explained(key: str, legal: list[str]) -> str:
    """What a user who wrote the unknown option `key` should write. `legal`: every option, by its dotted name.

    >>> explained("infer.pays", ["infer.min_gain"])
    'it is now called infer.min_gain'
    >>> explained("train.epoch", ["train.epochs", "folds.k"]), explained("epochs", ["train.epochs", "train.epoch"])
    ('the nearest legal name is train.epochs', 'the nearest legal name is train.epochs')
    """
    if key in OLD_NAMES:
        return f"it is now called {OLD_NAMES[key]}"
    if key in REMOVED:
        return REMOVED[key]
    # A right word in the wrong section is the commonest mistake.
    same_word = [name for name in legal if name.split(".")[-1] == key.split(".")[-1]]
    return f"the nearest legal name is {(same_word or difflib.get_close_matches(key, legal, n=1, cutoff=0.0))[0]}"


def with_todays_names(values: dict, prefix: str = "") -> dict:
    """The options that an earlier version wrote, in nested sections, by today's names; removed ones are left out.

    >>> with_todays_names({"train": {"lr": 0.1, "sampling": {"alike": "images"}}, "infer": {"power": 2.0}})
    {'train': {'lr': 0.1, 'sampling': {'balance': 'images'}}, 'infer': {}}
    """
    renamed = {}
    for name, value in values.items():
        key = OLD_NAMES.get(f"{prefix}{name}", f"{prefix}{name}")
        if key in REMOVED:
            continue
        inner = with_todays_names(value, f"{key}.") if isinstance(value, dict) else value
        renamed[key.removeprefix(prefix)] = _READ_AS.get((key, inner), inner) if isinstance(inner, str) else inner
    return renamed
