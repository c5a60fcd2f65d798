"""What reports, explorer and command line share: formatting."""
