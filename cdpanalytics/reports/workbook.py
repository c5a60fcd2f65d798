"""Write the answer to a question as an Excel workbook."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cdpanalytics.presentation import formatting, sentences
from cdpanalytics.presentation import output as destination
from cdpanalytics.presentation.analysis import Analysis
from cdpanalytics.presentation.html import HEADINGS
from cdpanalytics.presentation.workbook import Workbook

if TYPE_CHECKING:
    from cdpanalytics.selection import Selection

_DEFINITIONS = [
    ("Session", "From its start to its end one VM was being replicated. Its length is not replication lag."),
    ("Observed", "Scheduled time of each VM that was judged. What was left out is in its own columns."),
    ("Gap, exposed", "Observed time that no protecting session covers."),
    ("Breached", "The part of a gap after its exposure exceeded the RPO, in scheduled time."),
    ("Adherence", "1 - breached / observed, over time."),
    ("With what is left out", "Adherence without exclusions, grace and retirement."),
    ("Status", "How each VM was at the end of the period, as it was known then."),
    ("Strict", "The same with only Success and running sessions as protection."),
    ("Success rate", "Success / (Success + Warning + Failed): the server's own result of finished sessions."),
    ("Objective, budget", "The adherence promised, and the breached time that it allows."),
    ("Left out", "Of an exclusion: time of the VMs it names that would be observed without any exclusion."),
    ("Size", "The size of each VM as its newest finished session gives it, carried forward: a level, not a flow."),
]  # fmt: skip
"""What the words of the sheets mean."""


def to_excel(selection: Selection, output: str | os.PathLike[str], *, by: str = "policy") -> Path:
    """Write a workbook of a Selection: summary, policies, VMs, status, incidents, gaps, sizes, exclusions.

    Times are in the Selection's zone, which each head names; where its offset changes in
    the period, a UTC column follows them. Durations are real durations, shares real
    percentages. Text from the server is never a formula.

    Parameters
    ----------
    selection : Selection
        The question.
    output : path-like
        The file; its folder must exist. It is written whole or not at all; a symbolic link
        is followed, a pipe or device is written to, and ``-`` is standard output, unless it
        is a terminal.
    by : str
        What makes the groups of objectives, sizes and trends: `policy`, `backup_server` or a
        tag. The sheet "Policies" is then "Groups".

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError
        When a sheet would be too long for Excel, or the file cannot be written.
    """
    destination.check(output, binary=True)
    analysis = Analysis(selection.reading(), by=by)
    book = Workbook(selection.tz, HEADINGS)
    book.add_text("Summary", "Were we protected?", _summary(analysis))
    groups = analysis.groups.merge(_budgets(analysis), on=by, how="left")
    book.add_table("Policies" if by == "policy" else "Groups", groups)
    book.add_table("VMs", analysis.vms)
    book.add_table("Status", analysis.status)
    book.add_table("Incidents", analysis.incidents)
    book.add_table("Gaps", analysis.gaps)
    book.add_table("Sizes", analysis.sizes)
    book.add_table("Trends", analysis.trends)
    book.add_table("Exclusions", analysis.exclusions)
    book.add_table("Quality", analysis.quality)
    book.add_table("Holes", selection.holes)
    book.add_text("Definitions", "What the numbers mean", list(_DEFINITIONS))
    destination.write(output, book.to_bytes())
    return Path(output)


def _summary(analysis: Analysis) -> list[tuple[str, Any]]:
    selection, whole = analysis.selection, analysis.whole
    provenance = selection.provenance()
    return [
        ("Answer", sentences.verdict(analysis)), ("Now", sentences.now(analysis)),
        *(("Note", note) for note in sentences.notes(analysis)),
        *(("Period", dated.label) for dated in [selection.dated_period()] if dated is not None),
        ("Start", analysis.start), ("End", analysis.stop), ("Zone of all times", selection.tz),
        *(("Filter", text) for text in selection.filters()),
        ("adherence", whole["adherence"]), ("adherence_strict", whole["adherence_strict"]),
        *([("adherence_full", whole["adherence_full"])] if formatting.leaves_out(whole) else []),
        ("objective", analysis.objective["objective"]),
        ("Objective met", sentences.budget(analysis.objective)[0]),
        ("VMs", len(analysis.vms)), ("VMs that missed their RPO", len(analysis.worst)),
        ("Observed", whole["observed"]), ("Breached", whole["breached"]), ("Longest gap", whole["worst_gap"]),
        ("Source", ", ".join(map(str, provenance["sources"]))), ("SHA-256 of the files", provenance["sha256"]),
        *((f"SHA-256 of {Path(name).name}", digest) for name, digest in provenance.get("estate", {}).items()),
        *(("Note", text) for text in selection.findings()),
    ]  # fmt: skip


def _budgets(analysis: Analysis) -> pd.DataFrame:
    return analysis.objectives[
        [analysis.by, "objective", "passed", "budget", "spent", "remaining", "burn_rate"]
    ]
