"""What several runs say together: what differs, whether it is shown, and how a metric went.

`compare.py` and `history.py` are the two questions; `records.py` holds the answers.
"""
