"""What several runs say together: how they differ and whether that is shown, whether engines agree,
and how a metric went. Every metric is listed in `metrics.py`."""
