"""Hundreds of reports and journals that are not what a run wrote: bounded time and memory, and no error but our own."""

from __future__ import annotations

from collections import Counter

import pytest
from support import bounded, hostile_records

SECONDS, MEGABYTES = 2.0, 300.0


@pytest.mark.parametrize(
    ("work", "good", "count"),
    [("plan_from_report", "report_lines", 300), ("open_journal", "journal_lines", 300)],
)
def test_hostile_records(tmp_path, work, good, count):
    paths = hostile_records.write_corpus(tmp_path / "corpus", getattr(hostile_records, good), count)
    (tmp_path / "good").write_bytes(hostile_records.dump(getattr(hostile_records, good)()))
    outcomes = bounded.run(
        f"support.hostile_records:{work}",
        map(str, paths),
        seconds=SECONDS,
        megabytes=MEGABYTES,
        first=str(tmp_path / "good"),
    )
    assert len(outcomes) >= 300
    answers = Counter(outcome.answer for outcome in outcomes)
    assert len(answers) > 3, "the corpus reaches several outcomes"
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    largest = max(outcomes, key=lambda outcome: outcome.megabytes)
    print(f"{len(outcomes)} files: at most {slowest.seconds:.2f} s, {largest.megabytes:.0f} MB; {answers}")
