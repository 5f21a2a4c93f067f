"""PettingZoo's families: each plays where its packages are installed, else says in one sentence what to install or write."""

import importlib.util
import sys
import warnings
from pathlib import Path

import pytest

from marlstone.envs.make import make
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.user_file import load

rows_of = load(str(Path(__file__).parent / "test_pettingzoo.py"))
HAVE = lambda *packages: all(importlib.util.find_spec(p) is not None for p in packages)

FAMILIES = [  # name, packages, agents, whether they take turns
    ("classic.tictactoe_v3", ("pygame",), 2, True), ("classic.connect_four_v3", ("pygame",), 2, True),
    ("classic.rps_v2", ("pygame",), 2, False), ("classic.leduc_holdem_v4", ("rlcard",), 2, True),
    ("classic.texas_holdem_v4", ("rlcard",), 2, True), ("classic.chess_v6", ("chess",), 2, True),
    ("sisl.multiwalker_v9", ("Box2D",), 3, False), ("sisl.pursuit_v5", ("pygame",), 8, False),
    ("butterfly.knights_archers_zombies_v11", ("pymunk",), 4, False), ("butterfly.cooperative_pong_v6", ("pymunk",), 2, False),
    ("magent2.battle_v4?map_size=12&max_cycles=20", ("magent2",), 4, False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "packages", "agents", "turns"), FAMILIES, ids=lambda x: x if isinstance(x, str) else "")
def test_a_family_plays_by_the_laws_and_repeats_its_seeds(
    name: str, packages: tuple[str, ...], agents: int, turns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not HAVE(*packages):
        pytest.skip(f"needs {', '.join(packages)}")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs: bindings without modules, rendering without a mode
        env = make(f"pettingzoo:{name}")
        rows, again = (rows_of.play(env, 2, limit=12) for _ in range(2))
    if rows[-1].last:
        rows_of.check_rows(env, rows)
    assert env.spec.n == agents and len(rows) == len(again) > 1
    if "zombies" not in name:  # counts the steps to its next zombie on from the last episode, whatever the seed
        assert all((a.reward == b.reward).all() and (a.state == b.state).all() for a, b in zip(rows, again, strict=True))
    assert all(r.deciding.sum() == (1 if turns else r.present.sum()) for r in rows[:-1])
    env.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mpe.simple_spread_v3", "write pettingzoo:mpe2.simple_spread_v3"),
        ("magent.battle_v4", "pip install magent2, and write pettingzoo:magent2.battle_v4"),
        ("classic.tictactoe_v2", "classic.tictactoe_v3 is: write pettingzoo:classic.tictactoe_v3"),
        ("classic.ludo_v1", "no module 'ludo_v1' in classic: .*tictactoe_v3"),
        ("nowhere.game_v1", "install its package"),
    ],
)
def test_names_that_moved_or_never_were_say_what_to_write(name: str, words: str) -> None:
    with pytest.raises(UnknownEnvironment, match=words):
        make(f"pettingzoo:{name}")


@pytest.mark.parametrize(
    ("name", "package", "extra"), [("sisl.multiwalker_v9", "Box2D", "sisl"), ("classic.chess_v6", "chess", "classic"),
                                   ("butterfly.pistonball_v6", "pymunk", "butterfly")],
)  # fmt: skip
def test_a_missing_package_names_the_extra(name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [m for m in sys.modules if m.startswith((f"pettingzoo.{extra}", f"{package}."))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)  # where it is installed, Python takes it for missing
    with pytest.raises(ModuleNotFoundError, match=rf"needs the package '{package}': pip install marlstone\[{extra}\]"):
        make(f"pettingzoo:{name}")
