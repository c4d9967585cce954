"""Objects (connected components) of masks: which of them are kept, and how such rules are fitted on whole maps.

Knows masks that come band by band, never networks or image files. Begin with postprocess.py.
"""
