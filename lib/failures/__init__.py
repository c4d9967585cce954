"""What ends a stage besides a mistake of the user, in one sentence each: stops, faults of files, lack of memory."""
