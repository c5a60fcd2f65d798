"""Veeam CDP session records as pandas frames, metrics and reports."""
