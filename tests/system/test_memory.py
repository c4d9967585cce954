"""What the C library keeps of freed memory."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from lib.system import memory

ROOT = Path(__file__).resolve().parents[2]
HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")

FAULTS = """
import resource
import torch
from lib.system.memory import give_back
from lib.system.device import pick_device

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    maps = [torch.ones(4 << 20) for _ in range(20)]  # 16 MiB each, 320 together
    del maps
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pick_device("cpu")
rounds = [faults() for _ in range(5)]
give_back()
print(rounds[-1], faults())
"""


@pytest.mark.skipif(memory._LIBC is None, reason="glibc alone has these settings")
@pytest.mark.skipif(HUGE.exists() and "[always]" in HUGE.read_text(), reason="huge pages are asked for fewer times")
def test_a_batchs_memory_is_taken_from_the_system_once_and_handed_back_when_asked():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, cwd=ROOT)
    kept, after = map(int, done.stdout.split())
    pages = (320 << 20) // resource.getpagesize()
    assert kept < pages / 4 < pages / 2 < after, "pages are asked for again only after they were handed back"
