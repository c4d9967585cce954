"""The outside world: label readers, submission codecs, run-lengths, metrics, the built-in demo."""
