"""`marlstone check-learner`: does a learner keep the laws that all of them keep?"""

from marlstone.cli.arguments import Parser, settings
from marlstone.cli.outcome import CHECK, DONE

SHOWN = {True: "holds", False: "BROKEN", None: "skipped"}


def main(words: list[str]) -> int:
    """Check every law; returns the exit code: 3 where one is broken."""
    parser = Parser("check-learner", "Run a learner through the laws that every one keeps: yours, or one of this package.")
    add = parser.add_argument
    add("kind", metavar="KIND", help="the learner: a name, or file.py:Class")
    add("--env", metavar="NAME", help="where to check it; default: a small game that it can act in")
    add("--credit", metavar="KIND", help="as for train; default: individual")
    add("--architecture", metavar="KIND", help="as for train; default: decentralized")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="any other field, as for train: learner.lr=1e-3")
    add("--json", action="store_true", help="one line of JSON on stdout")
    flags = parser.read(words)

    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
    from marlstone.config import kinds
    from marlstone.evaluation.learner.law_cases import learner_case
    from marlstone.evaluation.learner.laws import check
    from marlstone.runs.directory import one_line

    places = {k: getattr(flags, k) for k in ("env", "credit", "architecture")}
    case = learner_case(flags.kind, {**{k: v for k, v in places.items() if v is not None}, **settings(flags.set)})
    verdicts = check(case)
    broken = [v.law for v in verdicts if v.held is False]
    parts = {part: kinds.name_of(getattr(case.config, part)) for part in ("architecture", "credit", "learner")}
    if flags.json:
        laws = [{"law": v.law, "held": v.held, "says": v.says} for v in verdicts]
        print(one_line({"env": case.config.env, **parts, "laws": laws, "broken": broken}))
    else:
        from marlstone.cli.report import show

        rows = [(v.law, SHOWN[v.held] + (f": {v.says}" if v.says else "")) for v in verdicts]
        show(f"{' / '.join(parts.values())} in {case.config.env}", rows)
    return CHECK if broken else DONE
