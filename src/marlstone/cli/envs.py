"""`marlstone envs`: where environments come from, names that work, and what each needs installed; how one name reads."""

from marlstone.cli.arguments import Parser


def main(words: list[str]) -> int:
    """List the sources, or show how a name reads. Imports no environment."""
    parser = Parser("envs", "List the environments, and what each needs installed; or show how a name and its options read.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="source:name?option=value, only to be read")
    parser.add_json()
    flags = parser.read(words)
    return _list(flags.json) if flags.name is None else _read(flags.name, flags.json)


def _list(as_json: bool) -> int:
    from marlstone.envs.make import sources
    from marlstone.envs.worlds import WORLDS

    found = sources()
    if as_json:
        from marlstone.runs.directory import one_line

        fields = ("name", "about", "examples", "installed", "missing", "install", "examples_missing")
        listed = [{**{f: getattr(s, f) for f in fields}, "runtime": "fused" if s.jax else "host"} for s in found]
        print(one_line({"environments": listed, "worlds": [vars(world) for world in WORLDS]}))
        return 0
    from marlstone.cli.report import show
    from marlstone.cli.tables import show_columns

    rows = []
    for source in found:
        rows += [(source.name, source.about), ("", source.state), *(("", example) for example in source.examples)]
    show("environments: source:name?option=value", rows)
    tried = [(w.env, f"marlstone[{w.needs}]" if w.needs else "nothing", w.trained) for w in WORLDS]
    show_columns("worlds whose returns are recorded (docs/environments.md)", ("environment", "needs", "trained in"), tried)
    return 0


def _read(name: str, as_json: bool) -> int:
    from marlstone.envs.make import parse
    from marlstone.envs.names import ambiguous_options

    source, target, options = parse(name)
    notes = ambiguous_options(name)
    if as_json:
        from marlstone.runs.directory import one_line

        print(one_line({"env": name, "source": source, "name": target, "options": options, "notes": notes}))
        return 0
    from marlstone.cli.report import show

    read = [(f"option {key}", f"{value!r} ({type(value).__name__})") for key, value in options.items()]
    show("environment", [("source", source), ("name", target), *read, *(("note", note) for note in notes)])
    return 0
