"""Runs before long work: a rehearsal of all stages, and a forecast of hours, disk and memory. Leaves no results."""
