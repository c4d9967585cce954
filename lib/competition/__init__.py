"""The organiser's side: images, labels, submission codecs, run-lengths, metrics, the built-in demo.

Knows how organisers write files and count scores, nothing of tiles, networks or predictions.
"""
