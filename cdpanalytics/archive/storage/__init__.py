"""Where the files of an archive are kept: a directory or an object store."""

from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["file", "link", "special"]
"""What a name of the storage is: a regular file, a symbolic link, or a pipe, device or socket."""
