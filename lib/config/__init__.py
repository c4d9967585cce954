"""Every option of the project: type, default, meaning and legal range, a file per section.

config = load("configs/aerial.yaml", ["--train.epochs", "3"])
config.train.epochs
"""

from lib.config.command_line import help_text
from lib.config.config import Config
from lib.config.load import for_source, load, parse_command_line, save, saved_config, saved_sections, saved_values
from lib.config.section import flat

__all__ = [
    "Config", "flat", "for_source", "help_text", "load", "parse_command_line", "save", "saved_config",
    "saved_sections", "saved_values",
]  # fmt: skip
