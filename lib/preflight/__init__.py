"""Before long work: a rehearsal of all stages and a forecast of hours, disk and memory. Leaves no result behind."""
