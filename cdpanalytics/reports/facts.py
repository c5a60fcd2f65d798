"""What a report says, as plain values for a program: the same numbers, unrounded."""

from __future__ import annotations

import json
from typing import Any

from cdpanalytics.presentation import formatting, happenings, sentences
from cdpanalytics.presentation.analysis import Analysis


def facts(analysis: Analysis) -> dict[str, Any]:
    """Return the answer of a report as plain values.

    Returns
    -------
    dict
        ``verdict``, ``now``, ``happened`` (sentences); ``question`` (start, end, zone, filters, by);
        ``whole``, ``objective`` (all VMs together); ``groups``, ``objectives``, ``status``,
        ``incidents``, ``vms``, ``breaches`` (tables as lists of rows); ``provenance``. Lengths
        are seconds, sizes bytes, instants ISO 8601 in UTC, what is not known is None.
    """
    selection = analysis.selection
    edges = [None if edge is None else edge.isoformat() for edge in (analysis.start, analysis.stop)]
    tables = {
        "groups": analysis.groups, "objectives": analysis.objectives, "status": analysis.status,
        "incidents": analysis.incidents, "vms": analysis.vms, "breaches": analysis.breaches,
    }  # fmt: skip
    return {
        "verdict": sentences.verdict(analysis), "now": sentences.now(analysis),
        "happened": [text for _, text in happenings.sentences(analysis)],
        "question": {"start": edges[0], "end": edges[1], "zone": selection.tz, "filters": selection.filters(),
                     "by": analysis.by},
        "whole": formatting.records(analysis.whole.to_frame().T.infer_objects())[0],
        "objective": formatting.records(analysis.objective.to_frame().T.infer_objects())[0],
        **{name: formatting.records(table) for name, table in tables.items()},
        "provenance": json.loads(json.dumps(selection.provenance(), default=str)),
    }  # fmt: skip
