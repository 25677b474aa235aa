"""Labelled rows in, a score for each class of other rows out."""
