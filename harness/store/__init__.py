"""What stays: the results of a folder in one SQLite file, whichever version wrote it, and
`runs.StoredRun`, the one reader of a stored run."""
