"""`marlstone check-comms`: does a channel between agents keep the laws that all of them keep?"""

from marlstone.cli.arguments import Parser, choices, settings
from marlstone.cli.laws import show_verdicts


def main(words: list[str]) -> int:
    """Check every law; returns the exit code: 3 where one is broken."""
    parser = Parser("check-comms", "Run a channel between agents through the laws that every one keeps: yours, or one of this package.")
    add = parser.add_argument
    add("kind", metavar="KIND", help=f"{choices('comms')}, or your own: file.py:Class")
    add("--env", metavar="NAME", help="check it over this environment's agents; default: four small ones with actions of three kinds")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the channel, as for train: comms.message=symbols")
    parser.add_json()
    flags = parser.read(words)

    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
    from marlstone.config import kinds, load
    from marlstone.evaluation.comms_cases import USUAL, channel_case
    from marlstone.evaluation.comms_laws import check

    channel = load(None, {"env": flags.env or USUAL, "comms": flags.kind, **settings(flags.set)}).comms
    case = channel_case(channel, flags.env)
    about = {"env": flags.env, "comms": kinds.name_of(channel), "agents": list(case.spec.team.agents)}
    return show_verdicts(f"{about['comms']} between {len(about['agents'])} agents", about, check(case), flags.json)
