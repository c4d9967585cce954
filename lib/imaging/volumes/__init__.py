"""Formats of medicine and science, most of which hold volumes: each needs a package of its own, loaded when needed."""
