"""Put pictures side by side on one contact sheet: ``python docs/sheet.py FOLDER SHEET.png``."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw

COLUMNS, WIDTH, TALLEST = 6, 420, 1500
"""Pictures in a row, and the size in pixels that each is shown in."""


def sheet(folder: Path) -> Image.Image:
    """Return one picture of all PNG files of a folder, each below its name."""
    files = sorted(folder.glob("*.png"))
    rows = -(-len(files) // COLUMNS)
    whole = Image.new("RGB", (WIDTH * COLUMNS, (TALLEST + 30) * rows), "#808080")
    write = ImageDraw.Draw(whole)
    for place, file in enumerate(files):
        x, y = WIDTH * (place % COLUMNS), (TALLEST + 30) * (place // COLUMNS)
        with Image.open(file) as picture:
            small = picture.resize((WIDTH - 10, picture.height * (WIDTH - 10) // picture.width))
        whole.paste(small.crop((0, 0, WIDTH - 10, min(small.height, TALLEST))), (x + 5, y + 24))
        write.text((x + 8, y + 6), file.stem, fill="#ffffff")
    return whole


if __name__ == "__main__":
    sheet(Path(sys.argv[1])).save(sys.argv[2], optimize=True)
