"""Looks at an organiser's raw folder and proposes a configuration: `python -m lib init PATH`.

`folder` sorts the files; `labels`, `submission` and `groups` recognise what they mean; `pixels` measures images; and
`choose` turns all that into options, each with its reason, which `write` puts into a YAML. Never trains or predicts.
"""
