"""The trainer, losses, optimizers, averaging, and one member's training from its tiles to its weight files.

Knows tiles and networks, nothing of whole images, sliding windows or submission formats.
"""
