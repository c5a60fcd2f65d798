"""The archive: plain Parquet files that outlive the server's memory."""

from cdpanalytics.archive.archive import Archive

__all__ = ["Archive"]
