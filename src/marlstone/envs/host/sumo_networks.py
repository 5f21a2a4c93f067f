"""Which SUMO network is meant, where its files lie and when its simulation begins and ends; checked before SUMO is started.

sumo:cologne3                                              a RESCO network that comes with sumo-rl, as its own .sumocfg says
sumo:city/my.net.xml?route=city/my.rou.xml&begin=25200     a network of one's own, by its net file
sumo:?net=city/my.net.xml&route=city/my.rou.xml            the same
sumo:city/my.sumocfg                                       one that a configuration file of SUMO describes
"""

import gzip
import importlib.util
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marlstone.core.errors import suggest
from marlstone.envs.names import UnknownEnvironment, is_sumo_file

PLACES = ("net", "route", "begin", "end")
"""Options that say which network, and when."""
HOUR = 3600  # seconds of simulation where nothing says how many


@dataclass(frozen=True)
class Network:
    """One network: `net`, its net file; `routes`, its route files, joined by commas; `begin`, the second at which it begins; `seconds`, how
    many are simulated."""

    net: str
    routes: str
    begin: int
    seconds: int


def networks() -> dict[str, Path]:
    """Folders of the RESCO networks that come with sumo-rl, by name. Imports nothing of SUMO."""
    found = importlib.util.find_spec("sumo_rl")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("sumo: needs sumo-rl, libsumo and eclipse-sumo: pip install marlstone[sumo]")
    return {p.name: p for p in sorted((Path(found.origin).parent / "nets" / "RESCO").iterdir()) if p.is_dir()}


def find_network(where: str, name: str, options: Mapping[str, Any], seconds: int | None) -> Network:
    """The network called `name`, or described by the options `PLACES`.

    Args: `where`: the environment's name, for messages; `seconds`: how many to simulate, where that is given.
    Raises: `UnknownEnvironment` for a name, file or option that is missing, naming it and the remedy.
    """
    for key, value in options.items():
        kind = str if key in ("net", "route") else int
        if type(value) is not kind:
            raise UnknownEnvironment(f"{where}: option {key!r} is {value!r}, of type {type(value).__name__}: give {kind.__name__}")
    if name and "net" in options:
        raise UnknownEnvironment(f"{where}: the network is given twice, by {name} and by net={options['net']}: give it once")
    net, routes, begin, end = options.get("net", name), options.get("route"), 0, None
    if not is_sumo_file(net):
        if routes is not None:
            raise UnknownEnvironment(f"{where}: {net} has routes of its own: leave route out, or write sumo:my.net.xml?route=...")
        known = networks()
        if net not in known:
            hint = suggest(net, sorted(known))
            raise UnknownEnvironment(f"{where}: no network {net!r} comes with sumo-rl: {hint}; or sumo:my.net.xml?route=my.rou.xml")
        net, routes, begin, _ = _configured(where, next(known[net].glob("*.sumocfg")))
    elif net.endswith(".sumocfg"):
        net, own, begin, end = _configured(where, _file(where, "configuration", net, ("configuration", "sumoConfiguration")))
        routes = own if routes is None else routes
    if routes is None:
        raise UnknownEnvironment(f"{where} needs the option 'route': write sumo:{net}?route=path/to/my.rou.xml (several: joined by commas)")
    found = _file(where, "net file", net, ("net",))
    _has_lights(where, found)
    files = [str(_file(where, "route file", part.strip(), ("routes", "additional"))) for part in routes.split(",")]
    begin = options.get("begin", begin)
    if "end" in options:
        if seconds is not None:
            raise UnknownEnvironment(f"{where}: end and seconds say the same twice: give one of them")
        end = options["end"]
    length = seconds if seconds is not None else HOUR if end is None else end - begin
    if length <= 0:
        raise UnknownEnvironment(f"{where}: it begins at {begin} and ends at {begin + length}: end must lie after begin")
    return Network(str(found), ",".join(files), begin, length)


def _configured(where: str, file: Path) -> tuple[str, str, int, int | None]:
    """Net file, route files, begin and end (s) as a .sumocfg says; its paths are from where it lies."""
    root = ElementTree.parse(file).getroot()

    def value(name: str, needed: bool = False) -> str | None:
        node = root.find(f".//{name}")
        if node is None and needed:
            raise UnknownEnvironment(f"{where}: {file.name} has no {name}: add it there")
        return None if node is None else node.attrib.get("value", node.attrib.get("v"))

    routes = ",".join(str(file.parent / r.strip()) for r in str(value("route-files", True)).split(","))
    begin, end = value("begin"), value("end")
    return str(file.parent / str(value("net-file", True))), routes, int(float(begin or 0)), int(float(end)) if end else None


def _file(where: str, what: str, path: str, roots: tuple[str, ...]) -> Path:
    """A file that is there and is XML of the right kind, by its absolute path."""
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise UnknownEnvironment(f"{where}: there is no {what} {path} (looked in {Path.cwd()}): write its path from there, or in full")
    try:
        with _opened(file) as text:
            root = next(iter(ElementTree.iterparse(text, events=("start",))))[1].tag
    except (ElementTree.ParseError, StopIteration, OSError) as error:
        raise UnknownEnvironment(f"{where}: {path} is no {what} ({error}): give XML as SUMO's tools write it") from error
    if root not in roots:
        raise UnknownEnvironment(f"{where}: {path} is no {what}: it begins with <{root}>, and <{roots[0]}> was expected")
    return file


def _opened(file: Path) -> Any:
    return gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")


def traffic_lights(net: Path) -> Iterator[str]:
    """The names of a net file's traffic lights, one for each of their programs."""
    with _opened(net) as text:
        for _, node in ElementTree.iterparse(text, events=("start",)):
            if node.tag == "tlLogic":
                yield node.attrib["id"]


def _has_lights(where: str, net: Path) -> None:
    """Raises `UnknownEnvironment` for a net without traffic lights: there is nobody to act."""
    try:
        if next(traffic_lights(net), None) is not None:
            return
    except ElementTree.ParseError as error:
        raise UnknownEnvironment(f"{where}: {net} is no net file ({error}): give XML as SUMO's tools write it") from error
    raise UnknownEnvironment(
        f"{where}: {net.name} has no traffic light, so nobody acts: give one to a junction, in netedit or by netconvert --tls.set JUNCTION"
    )
