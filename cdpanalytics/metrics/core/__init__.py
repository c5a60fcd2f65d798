"""What the metrics share: arrays, coverage, clocks, windows, groups, aggregates."""
