"""Reads an organiser's raw folder and proposes a configuration: `python -m lib init FOLDER`.

`folder` sorts the files. `labels`, `submission`, `splits` and `groups` recognise their meaning. `pixels` measures
images. `choose` derives options, each with its reason, and `write` puts them into a YAML. Never trains or predicts.
"""
