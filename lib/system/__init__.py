"""The machine: processes, threads, memory, devices, precision, the terminal. Knows nothing of images or labels."""
