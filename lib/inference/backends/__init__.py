"""Ways to run a network's forward pass. Knows tensors, not images, windows or options other than its own."""
