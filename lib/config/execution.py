"""Where and how the work of the stages is done. Nothing here changes a result, so that no stage is made from it."""

from typing import Annotated

from annotated_types import Ge

from lib.config.section import Section


class Execution(Section):
    """Where and how the work of the stages is done."""

    lease: Annotated[float, Ge(1)] = 120.0
    """Seconds after which work is taken over from a process that has not answered: its machine has died, or it is
    frozen. A process that has died on the same machine is replaced at once. All processes of a workspace must have the
    same value. On a network's file system keep it above 60, for which such systems cache the state of files."""
