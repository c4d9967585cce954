"""The report's sections. Each reads what stages wrote to the workspace, and is left out where there is nothing.

A section is a function `section(workspace, config) -> ReportSection | None`. It knows tables and figures, never how
they are drawn, which lib/report/page.html does. No section needs torch, so that every stage can write the report.
"""
