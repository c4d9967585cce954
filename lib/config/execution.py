"""Where and how the work of the stages is done. No stage is made from it.

The numbers of devices and of threads that train a member change its weights in their last bits, nothing else.
"""

from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import BeforeValidator

from lib.config.section import Section

Devices = Annotated[list[int | str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


class Execution(Section):
    """Where and how the work of the stages is done."""

    backend: Literal["local", "dask"] = "local"
    """Who does the work: processes of this machine (`local`), or the workers of a Dask cluster (`dask`), which needs
    the package distributed."""
    address: str = ""
    """The scheduler of a Dask cluster that is running: `tcp://host:8786`, or the path of its scheduler file. Empty for
    an own cluster on this machine, which ends with the stage."""
    devices: Devices = ["auto"]
    """Devices of this machine, one worker for each: `[0, 1]` for two GPUs, `[cpu, cpu]` for two processes. With `local`
    they train members (03): several devices train several members at the same time. With `dask` and no address they
    do all work. `auto`: with `local` what `train.device` says, one member after another; with `dask` every GPU that is
    visible, else one process on the CPU."""
    per_member: Annotated[int, Ge(1)] = 1
    """Devices that train one member together, on one machine (torchrun). Results depend on it."""
    threads: Annotated[int, Ge(0)] = 0
    """CPU threads of each worker that this machine starts for `devices`; 0 for what the environment says."""
    lease: Annotated[float, Ge(1)] = 120.0
    """Seconds without an answer after which a process counts as lost: its machine has died, or it is frozen. A process
    that starts after that waits as long again, then takes the work over. A process that has died on the same machine is
    replaced at once. All processes of a workspace must have the same value. On a network's file system keep it above
    60, for which such systems cache the state of files."""
