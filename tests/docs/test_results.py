"""The docs' figures are what the recorded results say."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_results_page_is_rendered_from_the_recorded_results() -> None:
    done = subprocess.run([sys.executable, "benchmarks/render.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_recorded_result_carries_its_machine_date_and_commit() -> None:
    import json

    for file in (ROOT / "benchmarks" / "results").rglob("*.json"):
        record = json.loads(file.read_text())
        assert {"machine", "date", "commit"} <= set(record), file
