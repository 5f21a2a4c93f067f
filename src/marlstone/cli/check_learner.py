"""`marlstone check-learner`: does a learner keep the laws that all of them keep?"""

from marlstone.cli.arguments import Parser, settings
from marlstone.cli.laws import show_verdicts


def main(words: list[str]) -> int:
    """Check every law; returns the exit code: 3 where one is broken."""
    parser = Parser("check-learner", "Run a learner through the laws that every one keeps: yours, or one of this package.")
    add = parser.add_argument
    add("kind", metavar="KIND", help="the learner: a name, or file.py:Class")
    add("--env", metavar="NAME", help="where to check it; default: a small game that it can act in")
    add("--credit", metavar="KIND", help="as for train; default: individual")
    add("--architecture", metavar="KIND", help="as for train; default: decentralized")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="any other field, as for train: learner.lr=1e-3")
    parser.add_json()
    flags = parser.read(words)

    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
    from marlstone.config import kinds
    from marlstone.evaluation.learner.law_cases import learner_case
    from marlstone.evaluation.learner.laws import check

    places = {k: getattr(flags, k) for k in ("env", "credit", "architecture")}
    case = learner_case(flags.kind, {**{k: v for k, v in places.items() if v is not None}, **settings(flags.set)})
    parts = {part: kinds.name_of(getattr(case.config, part)) for part in ("architecture", "credit", "learner")}
    title = f"{' / '.join(parts.values())} in {case.config.env}"
    return show_verdicts(title, {"env": case.config.env, **parts}, check(case), flags.json)
