"""The rooms behind the numbered scripts; each sub-package's docstring says what it knows about."""

import os

# Threads that wait for others sleep. By default they spin, and take the cores of the processes that load the data:
# read when torch is loaded, so before any room does.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
