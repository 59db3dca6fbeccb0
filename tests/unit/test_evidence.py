"""What evidence says, it says with proper signs, and keeps saying it."""

import pytest

from pellucid.core.evidence import Evidence, Reading, minus


@pytest.mark.parametrize(("text", "want"), [
    ("raises tench (r -0.97 of a possible 0.99; z -12.5).", "raises tench (r −0.97 of a possible 0.99; z −12.5)."),
    ("0.10 [-0.20, 0.40]", "0.10 [−0.20, 0.40]"),
    ("a B-2 bomber (-1), 30-32 rows, 1-0.5, B-2.5, 1e-0.5", "a B-2 bomber (-1), 30-32 rows, 1-0.5, B-2.5, 1e-0.5"),
])  # fmt: skip
def test_minus_signs(text, want):
    assert minus(text) == minus(minus(text)) == want


def test_sentences_reasons_and_the_table():
    reading = Reading("a", "A", -0.5, (-0.5,), "r", "bad", "It raises it (r -0.50).", "what it means")
    e = Evidence("contradicted", ("It raises it (r -0.50).",), (reading,))
    assert reading.sentence == e.reasons[0] == "It raises it (r −0.50)."
    assert "-0.5" not in e.table()
    assert "−0.5 r" in e.table()
    assert Evidence.from_dict(e.to_dict()) == e
    assert reading.value == -0.5
