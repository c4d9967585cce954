"""The report's sections: each reads what stages left in the workspace, and is left out while there is nothing.

A section is `section(workspace, config) -> Section | None`. It knows tables and figures, never how they are drawn:
lib/report/page.html does that. None needs torch, so that every stage can draw them.
"""
