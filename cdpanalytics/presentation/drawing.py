"""Draw SVG: marks in pixels, text that is always escaped, colours that the page's style decides."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from cdpanalytics.presentation import palette
from cdpanalytics.presentation.formatting import printable

_LETTER = 6.6
"""Width of a letter of a label, in pixels, in most fonts."""

_WIDE_LETTER = 7.6
"""The same in a wide font, for labels that must not touch."""

_STEPS = ("1h", "2h", "3h", "6h", "12h", "1D", "2D", "7D", "14D", "MS", "3MS", "YS")
_APART = 62
"""Least distance of two labels of a time axis, in pixels."""

_DAYS_WITH_WEEKENDS = 100
_DAYS_WITH_MONTHS = 400


@dataclass(frozen=True)
class Scale:
    """A stretch of numbers on a stretch of pixels; `log` for lengths over many magnitudes."""

    low: float
    high: float
    left: float
    right: float
    log: bool = False

    def __call__(self, values: Any) -> Any:
        """Return where values lie, cut at the edges."""
        values, low, high = (np.asarray(v, dtype=float) for v in (values, self.low, self.high))
        if self.log:
            values, low, high = (np.log10(np.maximum(v, 1e-9)) for v in (values, low, high))
        part = np.clip((values - low) / max(float(high - low), 1e-12), 0, 1)
        return self.left + part * (self.right - self.left)


def seconds(instants: Any) -> Any:
    """Return instants as seconds since 1970."""
    if isinstance(instants, pd.Timestamp):
        return instants.timestamp()
    times = pd.DatetimeIndex(instants).tz_convert("UTC").as_unit("us")
    return times.asi8 / 1e6


@dataclass
class Drawing:
    """A picture: its title states the finding, and what it cannot show in words is in a table.

    Parameters
    ----------
    width, height : float
        In pixels.
    title : str
        The finding, in a sentence.
    note : str
        What axes, colours and marks mean.
    """

    width: float
    height: float
    title: str
    note: str = ""
    _parts: list[str] = field(default_factory=list)

    def add(self, element: str, text: str = "", /, **attributes: Any) -> None:
        """Add an element; names of attributes have _ for -, and `kind` is its class."""
        tip = _text(attributes.pop("tip", ""))
        given = "".join(
            f' {"class" if name == "kind" else name.replace("_", "-")}="{_value(value)}"'
            for name, value in attributes.items()
            if value is not None
        )
        inner = _text(text)
        if tip:
            given, inner = f'{given} data-tip="{tip}"', f"<title>{tip}</title>{inner}"
        self._parts.append(
            f"<{element}{given}>{inner}</{element}>" if inner else f"<{element}{given}/>"
        )

    def rect(self, x: float, y: float, width: float, height: float, **more: Any) -> None:
        """Add a rectangle."""
        self.add("rect", x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), **more)

    def line(self, x1: float, y1: float, x2: float, y2: float, **more: Any) -> None:
        """Add a line."""
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, **more)

    def text(self, x: float, y: float, text: str, anchor: str = "start", **more: Any) -> None:
        """Add a label; anchor is start, middle or end."""
        self.add("text", text, x=x, y=y, text_anchor=None if anchor == "start" else anchor, **more)

    def path(self, xs: Any, ys: Any, *, closed: bool = False, **more: Any) -> None:
        """Add a line through points; closed for an area."""
        points = [f"{_number(x)},{_number(y)}" for x, y in zip(xs, ys, strict=True)]
        self.add("polygon" if closed else "polyline", points=" ".join(points), **more)

    def name(self, x: float, y: float, text: str, room: float, **more: Any) -> None:
        """Add a label that ends left of x, shortened to the room there is."""
        self.text(x, y, fitted(text, room), "end", kind="name", **more)

    def time_axis(self, scale: Scale, top: float, bottom: float, tz: str) -> None:
        """Add weekends, lines and labels of a time axis below what is drawn later."""
        span = scale.high - scale.low
        first, last = (
            pd.Timestamp(edge, unit="s", tz="UTC").tz_convert(tz)
            for edge in (scale.low, scale.high)
        )
        if span <= _DAYS_WITH_WEEKENDS * 86400:
            for day in pd.date_range(first.normalize(), last, freq="D"):
                if day.day_of_week >= 5:
                    left, right = scale(seconds(day)), scale(seconds(day + pd.DateOffset(days=1)))
                    self.rect(left, top, right - left, bottom - top, kind="off")
        if span <= _DAYS_WITH_MONTHS * 86400:
            for instant in pd.date_range(first.normalize(), last, freq="MS"):
                if instant > first:
                    x = scale(seconds(instant))
                    self.line(x, top, x, bottom, kind="month")
        taken = -np.inf
        for tick, label, month in _ticks(first, last, scale):
            x, wide = scale(seconds(tick)), _WIDE_LETTER * len(label)
            self.line(x, top, x, bottom + 4, kind="month" if month else "grid")
            place = "start" if x < scale.left + 20 else "end" if x > scale.right - 20 else "middle"
            begin = x - {"start": 0.0, "middle": wide / 2, "end": wide}[place]
            if begin > taken:  # else the label of the last tick would touch the one before it
                self.text(x, bottom + 17, label, place, kind="strong" if month else None)
                taken = begin + wide
        self.line(scale.left, bottom, scale.right, bottom, kind="axis")

    def value_axis(self, ticks: list[tuple[float, str]], left: float, right: float) -> None:
        """Add lines across with labels to the left of them."""
        for y, label in ticks:
            self.line(left, y, right, y, kind="grid")
            self.text(left - 6, y + 4, label, "end")

    def brush(self, scale: Scale, top: float, bottom: float) -> None:
        """Add what can be dragged over to choose a part of the time."""
        self.rect(scale.left, top, scale.right - scale.left, bottom - top, kind="brush",
                  data_from=round(scale.low * 1000), data_to=round(scale.high * 1000))  # fmt: skip

    def svg(self, label: str = "") -> Markup:
        """Return the element, whose colours are CSS variables of the page."""
        alt = f"{self.title}. {label or self.note}".strip()
        return Markup(
            '<svg class="cdp-picture" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}" '
            'xmlns="http://www.w3.org/2000/svg">{}</svg>'
        ).format(printable(alt), *[_number(n) for n in (self.width, self.height) * 2],
                 Markup("".join(self._parts)))  # fmt: skip  # noqa: S704 - every part is escaped

    def figure(self, label: str = "") -> Markup:
        """Return the picture below its finding, with what its marks mean."""
        note = Markup("<figcaption>{}</figcaption>").format(self.note) if self.note else ""
        return Markup('<figure class="cdp-figure"><p class="finding">{}</p>{}{}</figure>').format(
            self.title, self.svg(label), note
        )

    def alone(self, style: str) -> str:
        """Return the picture as a file of its own, in light colours; `style` has its rules."""
        return _alone(str(self.svg()), style)

    @staticmethod
    def as_images(drawn: Markup, style: str) -> Markup:
        """Return HTML with each picture in it as an image, for pages that keep no SVG."""
        text = re.sub(
            r'<svg class="cdp-picture" role="img" aria-label="([^"]*)".*?</svg>',
            lambda found: f'<img alt="{found[1]}" src="{_data(_alone(found[0], style))}">',
            drawn,
            flags=re.DOTALL,
        )
        return Markup(text)  # noqa: S704 - escaped as it was drawn


def _alone(svg: str, style: str) -> str:
    rules = f"svg {{ {palette.variables(palette.LIGHT)} }} {style}"
    return svg.replace(">", f"><style>{rules}</style>", 1)


def _data(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def highest(edges: np.ndarray, values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the greatest value in each column of pixels, of values that hold from their edge on.

    A peak of a minute is then seen in a year.
    """
    place = np.clip(np.searchsorted(columns, edges, "right") - 1, 0, len(columns) - 1)
    most = values[np.searchsorted(edges, columns, "right") - 1]  # what holds where a column begins
    np.maximum.at(most, place, values)
    return np.asarray(most)


def empty(title: str, width: float) -> Drawing:
    """Return a picture of nothing, which says so."""
    drawing = Drawing(width, 64, title)
    drawing.rect(0.5, 0.5, width - 1, 63, kind="empty", rx=8)
    drawing.text(width / 2, 36, "nothing to draw", "middle")
    return drawing


def fitted(text: str, room: float) -> str:
    """Return a text shortened to a room in pixels."""
    letters = max(int(room / _LETTER), 2)
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "…"


def _ticks(
    first: pd.Timestamp, last: pd.Timestamp, scale: Scale
) -> list[tuple[pd.Timestamp, str, bool]]:
    """Return instant, label, and whether a month begins there."""
    room = max(int((scale.right - scale.left) / _APART), 2)
    for step in _STEPS:
        floor = (
            first.normalize().replace(day=1) if step.endswith(("MS", "YS")) else first.normalize()
        )
        if step in ("7D", "14D"):
            floor -= pd.DateOffset(days=floor.day_of_week)
        count = (last - first) / (pd.Timedelta("30D") if "S" in step else pd.Timedelta(step))
        if count > (36 * room if step == "YS" else room):
            continue
        instants = [t for t in pd.date_range(floor, last, freq=step) if t >= first]
        if len(instants) <= room:
            return [_labelled(t, step) for t in instants]
    return []


def _labelled(instant: pd.Timestamp, step: str) -> tuple[pd.Timestamp, str, bool]:
    month = instant == instant.normalize() and instant.day == 1
    if step == "YS":
        return instant, f"{instant:%Y}", True
    if step.endswith("MS"):
        return instant, f"{instant:%b %Y}", month
    clock = instant != instant.normalize()
    return instant, f"{instant:%H:%M}" if clock else f"{instant.day} {instant:%b}", month


def _value(value: Any) -> Any:
    if isinstance(value, dict | list | tuple):
        return escape(json.dumps(value, ensure_ascii=False))
    if isinstance(value, float | np.floating | np.ndarray):
        return _number(value)
    return _text(str(value))


@lru_cache(maxsize=1024)
def _text(text: str) -> str:
    return str(escape(printable(text)))


def _number(value: Any) -> str:
    return f"{float(value):.1f}".removesuffix(".0")
