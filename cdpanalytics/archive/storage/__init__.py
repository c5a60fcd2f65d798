"""Where an archive's files lie: a local folder or an object store."""
