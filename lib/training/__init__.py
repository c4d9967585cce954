"""Model factory, losses, the loop, precision, averaging, checkpoints. Knows no submission formats."""
