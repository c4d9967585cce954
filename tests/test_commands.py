"""`python -m lib`: every command of the table has a body, and wrong words are one sentence."""

import inspect
from importlib import import_module

import pytest

from lib.__main__ import COMMANDS, main
from lib.errors import UserError


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_body_that_takes_its_words(name):
    command = COMMANDS[name]
    module, _, function = command.body.partition(":")
    words = command.words.replace("[", " ").replace("]", " ").replace("…", "").split()
    named = {"flags": []} if command.takes_flags else {"message": ""} if command.takes_message else {}
    inspect.signature(getattr(import_module(module), function)).bind(*words, **named)


@pytest.mark.parametrize("argv", [["look", "a.yaml"], ["boxes", "a.yaml"], ["get", "train.lr"], ["report", "a", "b"]])
def test_missing_and_surplus_words_are_refused_with_the_usage(argv):
    with pytest.raises(UserError, match=rf"expected python -m lib {argv[0]} .*CONFIG"):
        main(argv)
