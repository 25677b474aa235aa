"""The kind of this machine, as it stands in the name of a baseline: `amd-epyc-2-cores`."""

from __future__ import annotations

import re

from cpuinfo import get_cpu_info

from backends.rules import usable_cpus


def kind() -> str:
    brand = str(get_cpu_info().get("brand_raw", "unknown"))
    words = re.sub(r"[^a-z0-9]+", "-", brand.lower()).strip("-")
    return f"{words}-{usable_cpus()}-cores"


if __name__ == "__main__":
    print(kind())
