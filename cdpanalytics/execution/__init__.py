"""Compute metrics by ranges of VMs: in this process, on several, or on Dask."""
