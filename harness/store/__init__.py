"""What stays: the results of a folder in one SQLite file, and how a stored run is read."""
