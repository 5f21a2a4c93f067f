"""A language model whose log-probs are known exactly: on-policy ratios of recorded ids, and of text that is tokenized again.

    python benchmarks/language.py [--episodes 50]

Two agents of `examples/language_agents.py` played by the stub of `examples/stub_language_model.py` over HTTP on loopback. The endpoint is
asked for the log-probs of recorded ids once more: as they were sampled, and as a program has them that keeps the text and tokenizes it.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from record import stamp, write

sys.path.insert(0, str(Path(__file__).parents[1]))
from examples.language_agents import Crossing
from examples.stub_language_model import END, Stub, tokenize
from marlstone.language.agents import LanguageAgent
from marlstone.language.endpoint import Endpoint, LanguageModel
from marlstone.language.on_policy import check_on_policy
from marlstone.language.parsers import Choice
from marlstone.language.playing import play


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=50)
    flags = parser.parse_args()
    with Stub() as server:
        model = LanguageModel(Endpoint("stub", server.url, max_tokens=8, seed=0))
        agent = LanguageAgent(model, Choice(("wait", "go")))
        played = play(Crossing(), {"north": agent, "east": agent, "bell": lambda *_: 0}, flags.episodes)
        kept = [d for d in played.decisions if d.sampled]
        again = [replace(d, response_ids=(*tokenize(d.text), END)) for d in kept]
        ours, control = check_on_policy(model, kept), check_on_policy(model, again)
    changed = sum(a.response_ids != b.response_ids for a, b in zip(kept, again))
    record = {
        "episodes": flags.episodes,
        "decisions": ours.decisions,
        "tokens": ours.tokens,
        "largest_log_ratio": ours.largest,
        "problems": len(ours.problems),
        "retokenized": {"changed": changed, "caught": len(control.problems), "first": control.problems[0]},
    }
    write("language", {**record, **stamp()})
    print(record, file=sys.stderr)
    return 0 if ours.exact and changed and len(control.problems) == changed else 3


if __name__ == "__main__":
    sys.exit(main())
