"""Read an estate file entry by entry; each problem is kept with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Final, TypeVar

from cdpanalytics.errors import InputError
from cdpanalytics.estate.exclusions import Exclusions
from cdpanalytics.estate.file import Estate, Load, Objective, Rename
from cdpanalytics.estate.tables import Document, Finding
from cdpanalytics.estate.tags import Tags
from cdpanalytics.timeparse import length, share, zone

T = TypeVar("T")
Path = tuple[str | int, ...]

_ENTRIES: Final = (
    "zone", "zones", "tags", "exclude", "retire_after", "grace", "objective", "objectives", "rename",
)  # fmt: skip
_TAGS: Final = ("file", "columns")
_EXCLUDE: Final = ("file", "files", "day_first", "columns", "ignore", "zone")
_BARE_KEY: Final = re.compile(r"""\s*((?:"(?:[^"\\]|\\.)*"|'[^']*'|[^="'#\[])+?)\s*=""")


class Reader:
    """Reads one estate file; `problems` holds what could not be read.

    Parameters
    ----------
    document : Document
        The file.
    load : callable or None
        Returns a file that it names.
    tz : str
        Zone of local times in its tables where the file names none.
    """

    def __init__(self, document: Document, load: Load | None, tz: str) -> None:
        self.problems: list[Finding] = []
        self._document, self._load, self._tz = document, load, tz
        self._files = {document.name: document.sha256}

    def estate(self) -> Estate:
        """Return what the file says, without the entries that are in `problems`."""
        data = self._data()
        self._known_keys(data, _ENTRIES, ())
        named_zone = self._read(data, "zone", lambda value: zone(value, "zone"))
        self._tz = named_zone or self._tz
        tags = self._tags(data.get("tags"))
        estate = Estate(
            source=self._document.name,
            zone=named_zone,
            zones=self._zones(data.get("zones", {})),
            tags=tags,
            exclusions=tuple(self._exclusions(data.get("exclude", []))),
            retire_after=self._read(
                data, "retire_after", lambda value: length(value, "retire_after")
            ),
            grace=self._read(data, "grace", lambda value: length(value, "grace", zero=True)),
            objective=self._read(data, "objective", lambda value: share(value, "objective")),
            objectives=tuple(self._objectives(data.get("objectives", {}), tags)),
            renames=tuple(self._renames(data.get("rename", {}))),
            files=dict(self._files),
        )
        self.problems.sort(key=lambda finding: finding.line or 0)
        return estate

    # -- entries -------------------------------------------------------------------------

    def _zones(self, table: Any) -> dict[str, str]:
        return {
            server: name
            for server in self._table(table, ("zones",))
            if (name := self._try(("zones", server), zone, table[server], f"zone of {server}"))
        }

    def _tags(self, entry: Any) -> Tags | None:
        if entry is None:
            return None
        at: Path = ("tags",)
        table: dict[str, Any] = (
            {"file": entry} if isinstance(entry, str) else self._table(entry, at)
        )
        known = self._known_keys(table, _TAGS, at)
        document = self._document_of(table.get("file"), at) if known else None
        if document is None:
            return None
        columns = table.get("columns")
        return self._try(at, lambda: Tags.read(document, columns=columns))

    def _exclusions(self, entry: Any) -> Iterator[Exclusions]:
        several = isinstance(entry, list) and all(isinstance(each, dict) for each in entry)
        for index, each in enumerate(entry if several else [entry]):
            at: Path = ("exclude", index) if several else ("exclude",)
            table = {"files": each} if isinstance(each, (str, list)) else self._table(each, at)
            known = self._known_keys(table, _EXCLUDE, at)
            exclusions = self._exclusion(table, at) if known else None
            if exclusions is not None:
                yield exclusions

    def _exclusion(self, table: Mapping[str, Any], at: Path) -> Exclusions | None:
        names = table.get("files", table.get("file"))
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list):
            self._problem(at, f"{_dotted(at)} must name a file or a list of files, not {names!r}")
            return None
        documents = [document for name in names if (document := self._document_of(name, at))]
        if not documents:
            return None
        return self._try(
            at,
            lambda: Exclusions(
                documents, day_first=table.get("day_first"), columns=table.get("columns"),
                tz=zone(table.get("zone", self._tz), "zone"), ignore=table.get("ignore", ()),
            ),
        )  # fmt: skip

    def _objectives(self, table: Any, tags: Tags | None) -> Iterator[Objective]:
        at: Path = ("objectives",)
        table = self._table(table, at)
        self._known_keys(table, ("policy", "tag"), at)
        yield from self._shares("policy", table.get("policy", {}), (*at, "policy"))
        for tag, values in self._table(table.get("tag", {}), (*at, "tag")).items():
            column = tag
            if tags is not None:
                column = next((n for n in tags.names if n.casefold() == tag.casefold()), tag)
                if column not in tags.names:
                    self._problem((*at, "tag", tag), f"{tag!r} is not a tag of {tags.source}"
                                  f" (has: {', '.join(tags.names)})")  # fmt: skip
            yield from self._shares(column, values, (*at, "tag", tag))

    def _shares(self, column: str, table: Any, at: Path) -> Iterator[Objective]:
        for pattern, value in self._table(table, at).items():
            name = f"objective of {column} {pattern}"
            read = self._try((*at, pattern), share, value, name)
            if read is not None:
                yield Objective(column, pattern, read, self._line((*at, pattern)))

    def _renames(self, table: Any) -> Iterator[Rename]:
        at: Path = ("rename",)
        table = self._table(table, at)
        servers = {key: value for key, value in table.items() if isinstance(value, dict)}
        plain = {key: value for key, value in table.items() if key not in servers}
        for server, names in ((None, plain), *servers.items()):
            where = at if server is None else (*at, server)
            self._check_circles(names, where)
            for old, new in names.items():
                if isinstance(new, str) and new.strip():
                    yield Rename(old, new.strip(), server, self._line((*where, old)))
                else:
                    self._problem((*where, old), f"the new name of {old!r} must be text")

    def _check_circles(self, names: Mapping[str, Any], at: Path) -> None:
        steps = {old.casefold(): str(new).casefold() for old, new in names.items()}
        for old in names:
            name, passed = old.casefold(), set[str]()
            while name in steps and name not in passed:
                passed.add(name)
                name = steps[name]
            if name == old.casefold() and passed:
                self._problem((*at, old), f"{old!r} is renamed in a circle")
                return

    # -- reading ---------------------------------------------------------------------------

    def _data(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as problem:
            match = re.search(r"\(at line (\d+)", str(problem))
            line = int(match[1]) if match else max(1, self._text.count("\n"))  # at its end
            message = re.sub(r" \(at .*\)$", "", str(problem))
            self.problems.append(
                Finding(self._document.name, line, f"not readable as TOML: {message}")
            )
        return {}

    @cached_property
    def _text(self) -> str:
        try:
            return self._document.data.decode("utf-8-sig").replace("\r\n", "\n").rstrip() + "\n"
        except UnicodeDecodeError:
            self.problems.append(Finding(self._document.name, None, "not UTF-8, as TOML must be"))
            return ""

    def _table(self, value: Any, at: Path) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self._problem(at, f"{_dotted(at)} must be a table, not {value!r}")
        return {}

    def _known_keys(self, table: Mapping[str, Any], known: Sequence[str], at: Path) -> bool:
        unknown = [key for key in table if key not in known]
        for key in unknown:
            near = get_close_matches(key, known, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            self._problem((*at, key), f"unknown entry {_dotted((*at, key))}; {hint}")
        return not unknown

    def _document_of(self, name: Any, at: Path) -> Document | None:
        if not isinstance(name, str) or not name:
            self._problem(at, f"{_dotted(at)} must name a file, not {name!r}")
            return None
        if self._load is None:
            self._problem(at, f"cannot read {name}: only the estate file itself was given")
            return None
        document = self._try(at, self._load, name)
        if document is not None:
            self._files[name] = document.sha256
        return document

    def _read(self, data: Mapping[str, Any], key: str, parse: Callable[[Any], T]) -> T | None:
        return self._try((key,), parse, data[key]) if key in data else None

    def _try(self, at: Path, parse: Callable[..., T], *arguments: Any) -> T | None:
        try:
            return parse(*arguments)
        except InputError as problem:
            self._problem(at, str(problem))
        except (TypeError, AttributeError):
            self._problem(at, f"{_dotted(at)} has a value of the wrong kind")
        return None

    def _problem(self, at: Path, message: str) -> None:
        self.problems.append(Finding(self._document.name, self._line(at), message))

    def _line(self, at: Path) -> int | None:
        """Return the line of an entry, or of the nearest table around it."""
        return next(
            (self._lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in self._lines), None
        )

    @cached_property
    def _lines(self) -> dict[Path, int]:
        return dict(reversed(list(_lines(self._text))))


def _lines(text: str) -> Iterator[tuple[Path, int]]:
    """Yield each key and table of a TOML file with its line; tomllib does not keep them.

    Each line is read for itself, so text over several lines may look like a key; such a line
    can only mislead a message, and no entry of an estate file needs it.
    """
    header: Path = ()
    counts: dict[Path, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            header = _path(stripped)
            if stripped.startswith("[["):
                counts[header] = counts.get(header, -1) + 1
                header = (*header, counts[header])
            yield header, number
        elif match := _BARE_KEY.match(line):
            yield (*header, *_path(f"{match[1]} = 0")), number


def _path(line: str) -> Path:
    try:
        data: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    while isinstance(data, (dict, list)) and data:
        if isinstance(data, dict):
            key, data = next(iter(data.items()))
            path.append(key)
        else:
            data = data[0]
    return tuple(path)


def _dotted(at: Path) -> str:
    return ".".join(str(part) for part in at if not isinstance(part, int))
