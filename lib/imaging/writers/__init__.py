"""Label images and probability maps of any size to files, in bounded memory: rows go into a spool, then into a file."""
