"""`marlstone envs`: where environments come from, names that work, and what each needs installed; how one name reads."""

from marlstone.cli.arguments import Parser


def main(words: list[str]) -> int:
    """List the sources, or show how a name reads. Imports no environment."""
    parser = Parser("envs", "List the environments, and what each needs installed; or show how a name and its options read.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="source:name?option=value, only to be read")
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout")
    flags = parser.read(words)
    return _list(flags.json) if flags.name is None else _read(flags.name, flags.json)


def _list(as_json: bool) -> int:
    from marlstone.envs.make import sources

    found = sources()
    if as_json:
        from marlstone.runs.directory import one_line

        fields = ("name", "about", "examples", "installed", "missing", "install", "examples_missing")
        print(one_line({"environments": [{**{f: getattr(s, f) for f in fields}, "runtime": "fused" if s.jax else "host"} for s in found]}))
        return 0
    from marlstone.cli.report import show

    rows = []
    for source in found:
        rows += [(source.name, source.about), ("", source.state), *(("", example) for example in source.examples)]
    show("environments: source:name?option=value", rows)
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
