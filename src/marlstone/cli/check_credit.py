"""`marlstone check-credit`: does a credit method keep the laws that all of them keep?"""

from marlstone.cli.arguments import Parser, choices, settings
from marlstone.cli.laws import show_verdicts


def main(words: list[str]) -> int:
    """Check every law; returns the exit code: 3 where one is broken."""
    parser = Parser("check-credit", "Run a credit method through the laws that every one keeps: yours, or one of this package.")
    add = parser.add_argument
    add("kind", metavar="KIND", help=f"{choices('credit')}, or your own: file.py:Class")
    add("--env", metavar="NAME", help="where to check it; default: a small game in which it can be asked")
    add("--learner", metavar="KIND", help="as for train; default: the first that takes it")
    add("--architecture", metavar="KIND", help="as for train; default: ctde")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="any other field, as for train: credit.share=0.3")
    parser.add_json()
    flags = parser.read(words)

    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
    from marlstone.config import kinds
    from marlstone.evaluation.credit.law_cases import specimen
    from marlstone.evaluation.credit.laws import check

    places = {k: getattr(flags, k) for k in ("env", "learner", "architecture")}
    s = specimen(flags.kind, {**{k: v for k, v in places.items() if v is not None}, **settings(flags.set)})
    parts = {part: kinds.name_of(getattr(s.config, part)) for part in ("architecture", "credit", "learner")}
    title = f"{' / '.join(parts.values())} in {s.config.env}"
    return show_verdicts(title, {"env": s.config.env, **parts}, check(s), flags.json)
