"""`marlstone check-encoder`: does an encoder keep the laws that all of them keep?"""

from marlstone.cli.arguments import Parser, choices, settings
from marlstone.cli.laws import show_verdicts
from marlstone.core.errors import UserError


def main(words: list[str]) -> int:
    """Check every law; returns the exit code: 3 where one is broken."""
    parser = Parser("check-encoder", "Run an encoder through the laws that every one keeps: yours, or one of this package.")
    add = parser.add_argument
    add("kind", metavar="KIND", help=f"{choices('encoder')}, or your own: file.py:Class")
    add("--env", metavar="NAME", help="check it on this environment's observations; default: small ones of the kinds it accepts")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the encoder, such as channels=[8,16]")
    parser.add_json()
    flags = parser.read(words)
    fields = settings(flags.set)
    if "kind" in fields:
        raise UserError(f"--set kind={fields['kind']}: the kind is the argument, {flags.kind}")

    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
    from marlstone.config import kinds
    from marlstone.config.structure import Word, part
    from marlstone.encoders import Encoder
    from marlstone.evaluation.encoder_laws import check, leaves_for

    encoder = part(Encoder, {"kind": flags.kind, **{k: Word(v) for k, v in fields.items()}}, "encoder")
    leaves = leaves_for(encoder, flags.env)
    checked = [f"{x.kind} {'x'.join(map(str, x.shape))} {x.dtype}" for x in leaves]
    about = {"env": flags.env, "encoder": kinds.name_of(encoder), "leaves": checked}
    return show_verdicts(f"{about['encoder']} on {', '.join(checked)}", about, check(encoder, leaves), flags.json)
