"""`marlstone envs`: where environments come from, names that work, and what each needs installed."""

from marlstone.cli.arguments import Parser


def main(words: list[str]) -> int:
    """List the sources. Imports none of them."""
    parser = Parser("envs", "List the environments, and what each needs installed.")
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout")
    flags = parser.read(words)

    from marlstone.envs.make import sources

    found = sources()
    if flags.json:
        from marlstone.runs.directory import one_line

        fields = ("name", "about", "examples", "installed", "missing", "install")
        print(one_line({"environments": [{**{f: getattr(s, f) for f in fields}, "runtime": "fused" if s.jax else "host"} for s in found]}))
        return 0
    from marlstone.cli.report import show

    rows = []
    for source in found:
        state = "ready" if source.installed else f"needs {', '.join(source.missing)}: {source.install}"
        rows += [(source.name, source.about), ("", state), *(("", example) for example in source.examples)]
    show("environments: source:name?option=value", rows)
    return 0
