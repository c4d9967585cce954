"""Ways to run a network's forward pass. Knows tensors; never knows images, windows, or other options than its own."""
