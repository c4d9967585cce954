"""Channels: which file and slice each one is read from, its scaling, and the reader that puts them together."""
