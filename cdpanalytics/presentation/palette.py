"""The colours of report, explorer and pictures, for light and for dark pages.

The ramp of severity, s0 to s4, goes away from the page: the worst is darkest on white and brightest on black.
"""

from __future__ import annotations

LIGHT = {
    "ink": "#1f2328", "soft": "#57606a", "line": "#d8dee4", "paper": "#ffffff", "panel": "#f6f8fa",
    "accent": "#0b5cad", "met": "#0b5cad", "missed": "#a3480b", "off": "#f1f3f5",
    "s0": "#eaf1f7", "s1": "#f5c98b", "s2": "#e08214", "s3": "#b35806", "s4": "#5e2a04",
    "t0": "#1f2328", "t1": "#1f2328", "t2": "#1f2328", "t3": "#ffffff", "t4": "#ffffff",
    "many": "#b35806", "alone": "#7f9bb8", "covered": "#c6dbef", "band": "#dce9f5", "mark": "#0b5cad",
}  # fmt: skip

DARK = {
    "ink": "#e6edf3", "soft": "#a2adb9", "line": "#353d46", "paper": "#111418", "panel": "#1a2027",
    "accent": "#79b8ff", "met": "#79b8ff", "missed": "#f0a15e", "off": "#191f25",
    "s0": "#1c2833", "s1": "#5a3a12", "s2": "#9c560c", "s3": "#e8912d", "s4": "#ffdca8",
    "t0": "#e6edf3", "t1": "#f7ead9", "t2": "#ffffff", "t3": "#1f1300", "t4": "#1f1300",
    "many": "#f0a15e", "alone": "#6d8cab", "covered": "#2b4a66", "band": "#24384a", "mark": "#79b8ff",
}  # fmt: skip


def variables(colours: dict[str, str]) -> str:
    """Return colours as declarations of CSS variables."""
    return " ".join(f"--{name}: {value};" for name, value in colours.items())
