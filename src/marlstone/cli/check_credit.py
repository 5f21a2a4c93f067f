"""`marlstone check-credit`: does a credit method keep the laws that all of them keep?"""

from marlstone.cli.arguments import Parser, choices, settings
from marlstone.cli.outcome import CHECK, DONE

SHOWN = {True: "holds", False: "BROKEN", None: "skipped"}


def main(words: list[str]) -> int:
    """Check every law; returns the exit code: 3 where one is broken."""
    parser = Parser("check-credit", "Run a credit method through the laws that every one keeps: yours, or one of this package.")
    add = parser.add_argument
    add("kind", metavar="KIND", help=f"{choices('credit')}, or your own: file.py:Class")
    add("--env", metavar="NAME", help="where to check it; default: a small game in which it can be asked")
    add("--learner", metavar="KIND", help="as for train; default: the first that takes it")
    add("--architecture", metavar="KIND", help="as for train; default: ctde")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="any other field, as for train: credit.share=0.3")
    add("--json", action="store_true", help="one line of JSON on stdout")
    flags = parser.read(words)

    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
    from marlstone.config import kinds
    from marlstone.evaluation.credit.law_cases import specimen
    from marlstone.evaluation.credit.laws import check
    from marlstone.runs.directory import one_line

    places = {k: getattr(flags, k) for k in ("env", "learner", "architecture")}
    s = specimen(flags.kind, {**{k: v for k, v in places.items() if v is not None}, **settings(flags.set)})
    verdicts = check(s)
    broken = [v.law for v in verdicts if v.held is False]
    parts = {part: kinds.name_of(getattr(s.config, part)) for part in ("architecture", "credit", "learner")}
    if flags.json:
        laws = [{"law": v.law, "held": v.held, "says": v.says} for v in verdicts]
        print(one_line({"env": s.config.env, **parts, "laws": laws, "broken": broken}))
    else:
        from marlstone.cli.report import show

        rows = [(v.law, SHOWN[v.held] + (f": {v.says}" if v.says else "")) for v in verdicts]
        show(f"{' / '.join(parts.values())} in {s.config.env}", rows)
    return CHECK if broken else DONE
