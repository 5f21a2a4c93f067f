"""The recorded program costs as the results page shows them."""

import json

from program_cost import FIGURES
from record import RESULTS
from tables import number, table


def program_cost() -> str:
    """Kernels, bytes and products of one update, ours beside JaxMARL's."""
    path = RESULTS / "program_cost.json"
    if not path.exists():
        return "Not recorded yet.\n"
    r = json.loads(path.read_text())
    rows = [
        [
            f"{case['about']}, {case['envs']:,} environments" if i == 0 else "",
            label,
            number(case["ours"][key]),
            number(case["jaxmarl"][key]),
            f"{case['ours'][key] / case['jaxmarl'][key]:.2f}" if case["jaxmarl"][key] else "-",
        ]
        for case in r["cases"].values()
        for i, (key, label) in enumerate(FIGURES.items())
    ]
    made = f"Counted {r['date'][:10]} at `{r['commit']}`, jax {r['jax']} on both sides.\n"
    return table(["work", "what", "ours", "JaxMARL", "ours / theirs"], rows) + "\n" + made
