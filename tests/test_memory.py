"""What the C library keeps of freed memory."""

import subprocess
import sys

import pytest

from lib import memory

FAULTS = """
import resource, sys
import torch
from lib.memory import give_back
from lib.training.device import pick_device

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    maps = [torch.ones(4 << 20) for _ in range(20)]  # 16 MiB each, 320 together
    del maps
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "kept":
    pick_device("cpu")
first = faults(), faults(), faults()
give_back()
print(first[2], faults())
"""


@pytest.mark.skipif(memory._LIBC is None, reason="glibc alone has these settings")
def test_a_batchs_memory_is_taken_from_the_system_once_and_handed_back_when_asked():
    def measured(way: str) -> list[int]:
        done = subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True, check=True)
        return list(map(int, done.stdout.split()))

    pages = 320 * 256
    kept, after = measured("kept")
    assert kept < pages / 20 < pages / 2 < after, "pages were asked for again only after they were handed back"
    assert measured("plain")[0] > pages / 2
