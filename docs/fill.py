"""Fill the definitions, pictures and figures of metrics, verdicts, questions and performance.md: ``make docs``.

The text of a file between ``<!-- NAME -->`` and ``<!-- / -->`` is written here, from the
docstrings, from metrics of the sessions shown, and from what ``make bench`` left in
docs/performance; the rest is written by hand.
"""

from __future__ import annotations

import doctest
import inspect
import os
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib.dates as mdates
import matplotlib.pyplot as plt
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from coverage import coverage_figure, success_table, trend_table
from shown import PARTS as FIGURES
from shown import part as figures

from cdpanalytics import metrics, plots
from cdpanalytics.plots.figure import COVERED, GAP, INK, styled
from cdpanalytics.presentation import formatting

DOCS = Path(__file__).parent
DAY = pd.Timestamp("2026-10-01", tz="UTC")
SHOWN = ("Parameters", "Returns", "Raises", "Notes", "References")
SHARED_LINK = "[shared parameters](#shared-parameters)"
REGION = re.compile(r"(<!-- (?P<name>\w+) -->\n).*?(<!-- / -->)", re.S)


def definition(name: str) -> str:
    """A metric's docstring as Markdown: its example first, then what it returns, then the rest."""
    summary, sections = _parts(name)
    shown = [f"### {name}", f"```pycon\n{sections['Examples']}\n\n```", _markdown(summary)]
    for section, body in ((name, sections[name]) for name in SHOWN if name in sections):
        if section == "Returns":
            kind, _, rest = body.partition("\n")
            shown.append(f"**Returns** a `{kind.strip()}`. {_columns(inspect.cleandoc(rest))}")
        elif section == "Parameters":
            shown.append(f"**{section}**\n\n{_parameters(name, body)}")
        elif section == "Raises":
            shown.append(f"**{section}**\n\n{_arguments(body)}")
        else:
            shown.append(f"**{section}.** {_markdown(body)}")
    return "\n\n".join(part.strip("\n") for part in shown) + "\n"


def _parts(name: str) -> tuple[str, dict[str, str]]:
    """A metric's docstring: what is before the first section, and the sections."""
    text = inspect.getdoc(getattr(metrics, name)) or ""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", text, flags=re.M)
    bodies = (body.strip("\n") for body in parts[2::2])
    return parts[0].strip(), dict(zip(parts[1::2], bodies, strict=True))


def _parameters(name: str, text: str) -> str:
    """A metric's parameters; those that all metrics share are a link to their section."""
    items = _arguments(text)
    if name == "rpo_adherence":
        own = [item for item in items.splitlines() if not _is_shared(item)]
        return "\n".join([f"- All {SHARED_LINK}.", *own])
    return items.replace("As in `rpo_adherence`", f"See {SHARED_LINK}")


def shared_parameters() -> str:
    """The parameters that metrics share, as rpo_adherence, which takes all of them, defines them."""
    items = _arguments(_parts("rpo_adherence")[1]["Parameters"]).splitlines()
    return "\n".join(filter(_is_shared, items)) + "\n"


def _is_shared(item: str) -> bool:
    """Whether an item of rpo_adherence's parameters is of other metrics, too."""
    return not item.startswith("- `without`")


def _columns(text: str) -> str:
    """What is said of a table, its columns as items."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        items = re.split(r"^(?=``[^`]+`` : )", paragraph, flags=re.M)
        paragraphs += [
            re.sub(r"^(``[^`]+``) : ", r"- \1: ", item.strip()).replace("\n", "\n  ")
            if re.match("``[^`]+`` : ", item)
            else _nested(item.strip()) + "\n"
            for item in items
            if item.strip()
        ]
        paragraphs.append("")
    return _markdown("\n".join(paragraphs))


def _nested(text: str) -> str:
    """A list below a column as a list inside its item; any other paragraph as it is."""
    return re.sub("^", "  ", text, flags=re.M) if text.startswith("- ") else text


def _arguments(text: str) -> str:
    """Arguments, or errors, as items."""
    items = []
    for item in re.split(r"^(?=\S)", text, flags=re.M)[1:]:
        head, _, body = item.partition("\n")
        names, _, kind = head.partition(" : ")
        said = " ".join(inspect.cleandoc(body).split())
        items.append(f"- `{names}`{f' ({kind})' if kind else ''}{': ' if said else ''}{said}")
    return _markdown("\n".join(items))


def _markdown(text: str) -> str:
    """Docstring markup as Markdown: code in single quotes, and no second colon before a code block."""
    return re.sub(r"``([^`]+)``", r"`\1`", re.sub(r"::$", ":", text, flags=re.M))


def at(clock: str) -> pd.Timestamp:
    """An instant of the day shown."""
    return DAY + pd.Timedelta(f"{clock}:00")


def gaps_picture() -> str:
    """Draw sessions, exposure and breaches of one VM's day; return the caption."""
    rows = [("00:00", "06:00", "Success"), ("06:00", "09:00", "Failed"),
            ("09:00", "14:00", "Warning"), ("14:40", "20:00", "Success"),
            ("22:00", "24:00", "Success")]  # fmt: skip
    sessions = pd.DataFrame({
        "vm": "db-01", "created": [at(row[0]) for row in rows], "ended": [at(row[1]) for row in rows],
        "state": "Completed", "result": [row[2] for row in rows],
    })  # fmt: skip
    target = pd.Timedelta("1h")
    whole = metrics.rpo_adherence(sessions, target, by="vm").iloc[0]
    found = metrics.gaps(sessions, target)
    with styled():
        figure, (upper, lower) = plt.subplots(
            2, 1, figsize=(8, 4.2), sharex=True, height_ratios=[1, 2], layout="constrained"
        )
        for _, row in sessions.iterrows():
            protects = row["result"] != "Failed"
            upper.barh(0, row["ended"] - row["created"], left=row["created"], height=0.6,
                       color=COVERED if protects else "white", edgecolor=INK,
                       hatch=None if protects else "////")  # fmt: skip
            middle = row["created"] + (row["ended"] - row["created"]) / 2
            upper.annotate(row["result"], (middle, 0), ha="center", va="center",
                           bbox={"fc": "white", "ec": "none", "pad": 1, "alpha": 0.8})  # fmt: skip
        upper.set(yticks=[], ylim=(-0.5, 0.5))
        upper.set_title("Two of three gaps outlast the target of 1 h", loc="left")
        for number, (_, gap) in enumerate(found.iterrows()):
            hours = gap["exposure"] / pd.Timedelta("1h")
            lower.plot([gap["start"], gap["end"], gap["end"]], [0, hours, 0], color=INK)
            late = gap["start"] + target
            if gap["breached"] > pd.Timedelta(0):
                lower.fill_between([late, gap["end"]], [1, 1], [1, hours], color=GAP, alpha=0.8,
                                   label=None if number else "breached", linewidth=0)  # fmt: skip
                lower.annotate(formatting.duration(gap["breached"]), (gap["end"], hours), xytext=(6, -4),
                               textcoords="offset points", color=GAP)  # fmt: skip
        lower.axhline(1, color=INK, linestyle="--", linewidth=1)
        lower.annotate("target", (DAY, 1), xytext=(4, 4), textcoords="offset points")
        lower.set(ylabel="exposure (h)", xlabel="1 October 2026 (UTC)", ylim=(0, 3.3),
                  xlim=(DAY, at("24:00")))  # fmt: skip
        lower.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M"))
        lower.legend(loc="upper right", frameon=False)
        said = (
            f"Observed {formatting.duration(whole['observed'])}, exposed {formatting.duration(whole['exposed'])} "
            f"in {whole['gaps']} gaps, breached {formatting.duration(whole['breached'])} in "
            f"{whole['breaches']} of them: adherence {formatting.share(whole['adherence'])}, "
            f"gap adherence {formatting.share(whole['gap_adherence'])}."
        )
        _save(figure, "metrics-gaps.svg", said)
    return f"![{said}](metrics-gaps.svg)\n\n{said}\n"


def states_picture() -> str:
    """Draw what is covered, breached, unknown and excluded on one VM's day; return the caption."""
    rows = [("00:00", "06:00"), ("07:30", "12:00"), ("16:00", "20:00"), ("22:00", "24:00")]
    sessions = pd.DataFrame({
        "vm": "db-01", "created": [at(row[0]) for row in rows], "ended": [at(row[1]) for row in rows],
    })  # fmt: skip
    hole, exclusion = (at("12:00"), at("15:00")), (at("20:00"), at("22:00"))
    whole = metrics.rpo_adherence(
        sessions, "1h", by="vm", exclude=[exclusion],
        unobserved=pd.DataFrame([hole], columns=["start", "end"]),
    ).iloc[0]  # fmt: skip
    breach = at("07:30") - whole["breached"]
    unknown = hole[0] + whole["unobserved"]
    lines: dict[str, list[tuple[pd.Timestamp, pd.Timestamp, str, str | None, str]]] = {
        "sessions": [(*each, COVERED, None, "") for each in zip(sessions["created"], sessions["ended"], strict=True)],
        "hole": [(*hole, "white", "xx", "never fetched")],
        "exclusion": [(*exclusion, "white", "////", "planned")],
        "result": [
            *((*each, COVERED, None, "covered") for each in zip(sessions["created"], sessions["ended"], strict=True)),
            (at("06:00"), breach, "white", None, "gap"),
            (breach, at("07:30"), GAP, None, "breached"),
            (hole[0], unknown, "white", "xx", "unknown"),
            (*exclusion, "white", "////", "excluded"),
        ],
    }  # fmt: skip
    with styled():
        figure, ax = plt.subplots(figsize=(8, 2.8), layout="constrained")
        for height, (start, end, color, hatch, label) in (
            (height, bar) for height, bars in enumerate(lines.values()) for bar in bars
        ):
            ax.barh(
                height, end - start, left=start, height=0.6, color=color, edgecolor=INK, hatch=hatch
            )
            if label:
                narrow = end - start < pd.Timedelta("2h")
                side = "right" if label == "gap" else "left" if narrow else "center"
                ax.annotate(label, (start + (end - start) / 2, height), ha=side, va="center",
                            xytext=(0, -20 if narrow else 0), textcoords="offset points", annotation_clip=False,
                            bbox={"fc": "white", "ec": "none", "pad": 1, "alpha": 0.8})  # fmt: skip
        ax.set_title(
            "Only observed time counts: unknown and excluded time are left out", loc="left"
        )
        ax.set(yticks=range(len(lines)), yticklabels=list(lines), ylim=(len(lines) - 0.2, -0.5),
               xlim=(DAY, at("24:00")), xlabel="1 October 2026 (UTC)")  # fmt: skip
        ax.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M"))
        said = (
            f"One VM, target 1 h. Observed {formatting.duration(whole['observed'])}, "
            f"breached {formatting.duration(whole['breached'])}, "
            f"unknown {formatting.duration(whole['unobserved'])}, "
            f"excluded {formatting.duration(whole['excluded'])}: adherence {formatting.share(whole['adherence'])}."
        )
        _save(figure, "metrics-states.svg", said)
    return f"![{said}](metrics-states.svg)\n\n{said}\n"


def verdicts_picture() -> str:
    """Draw the fleet of docs/verdicts.md, which makes it in its first example."""
    code = re.search(r"```pycon\n(.*?)```", (DOCS / "verdicts.md").read_text(), re.S)
    lines = [line[4:] for line in code[1].splitlines() if line.startswith((">>> ", "... "))]  # type: ignore[index]
    scope: dict[str, pd.DataFrame] = {}
    exec("\n".join(lines), scope)  # noqa: S102 - our own file
    ax = plots.timeline(scope["sessions"], metrics.gaps(scope["sessions"], "15min"))
    ax.set_title("Four of the six have gaps: the other two were replicated all day", loc="left")
    said = "One line per VM: when its sessions covered it, and its gaps; the examples give the numbers."
    _save(ax.figure, "verdicts.svg", said)
    return f"![{said}](verdicts.svg)\n"


def coverage_picture() -> str:
    """Draw how often the interval of a slope holds it."""
    with styled():
        alt = (
            "Share of intervals that contain the true value, in the worst case: by time slots 97 %, "
            "by resampled changes 90 %, of pooled sessions 0 %, Theil-Sen's own 14 %."
        )
        _save(coverage_figure(), "uncertainty.svg", alt)
    return f"![{alt}](uncertainty.svg)\n"


class Drawn:
    """The pictures of a page, from its own examples: each shows the `ax` that stands before it."""

    def __init__(self, page: Path) -> None:
        self._page, self._run, self._scope = page, 0, dict[str, Any]()

    def picture(self, name: str, before: str) -> str:
        """Run what of the page stands before a picture, and draw it; return its Markdown."""
        examples = doctest.DocTestParser().get_examples(before)
        for example in examples[self._run :]:
            exec(example.source, self._scope)  # noqa: S102 - our own file
        self._run = len(examples)
        ax = self._scope["ax"]
        file = f"{self._page.stem}-{name.removeprefix('drawn_')}.svg"
        said = ax.get_title(loc="left")
        _save(ax.figure, file, said)
        return f"![{said}]({file})\n"


def _save(figure: object, name: str, alt: str) -> None:
    if "--check" not in sys.argv:
        (DOCS / name).write_text(plots.Chart(figure, alt).svg(name.removesuffix("svg")))  # type: ignore[arg-type]
    plt.close(figure)  # type: ignore[arg-type]


def filled(page: Path) -> str:
    """A file's text with its regions written anew."""
    text, drawn = page.read_text(), Drawn(page)
    made = {
        "gaps_picture": gaps_picture, "states_picture": states_picture,
        "shared_parameters": shared_parameters, "verdicts_picture": verdicts_picture,
        "coverage_picture": coverage_picture, "success_coverage": success_table,
        "trend_coverage": trend_table,
    }  # fmt: skip

    def written(region: re.Match[str]) -> str:
        name = region["name"]
        if name.startswith("drawn_"):
            return region[1] + drawn.picture(name, text[: region.start()]) + region[3]
        if name in FIGURES:
            return region[1] + figures(name, DOCS / "performance") + region[3]
        return region[1] + (made[name]() if name in made else definition(name)) + region[3]

    return REGION.sub(written, text)


def main() -> int:
    """Write the files, or with --check only say whether they are as they would be written."""
    stale = []
    os.chdir(DOCS.parent)  # the examples read data/sample
    for name in ("metrics.md", "verdicts.md", "questions.md", "performance.md", "uncertainty.md"):
        path = DOCS / name
        before = path.read_text()
        after = filled(path)
        if before != after:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(after)
    if "--check" in sys.argv and stale:
        print(f"{', '.join(stale)} would be written differently; run: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
