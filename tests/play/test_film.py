"""A film shows the episodes that are reported, as the environment draws them, and is refused where nothing can be drawn or written."""

import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from marlstone.architectures import Hierarchical
from marlstone.core.errors import UserError
from marlstone.envs.board import Board, is_picture, observations
from marlstone.envs.faults import Noise
from marlstone.envs.make import make
from marlstone.envs.wrappers import wrap_env
from marlstone.evaluation.filming import HELD, evaluate_filmed, pictures
from marlstone.play.film import Frame, film_host, renderer, rendering
from marlstone.runs.film import captioned, refuse_unwritable, write_film
from tests.standing import runtime

pytestmark = pytest.mark.usefixtures("compiled_once")
LBF = "jumanji:LevelBasedForaging?task=5x5-2p-1f-coop&time_limit=6"


def test_the_film_is_of_the_episodes_that_are_reported() -> None:
    """Of a policy that draws its actions: as many pictures as an episode has steps, and one before; its return at the end."""
    player = runtime(LBF, 2)
    state = player.start()
    played = player.evaluate(state, 5, "sample")
    frames = list(player.film(state, 5, "sample", 2))
    for e in range(2):
        mine = [f for f in frames if f.episode == e]
        assert [f.step for f in mine] == list(range(len(mine))) and len(mine) == played.length[0, e] + 1
        assert [f.ended for f in mine] == [False] * (len(mine) - 1) + [True]
        np.testing.assert_allclose(mine[-1].team_return, played.team_return[0, e], rtol=1e-6)
    assert all(is_picture(f.picture) and f.picture.shape == frames[0].picture.shape for f in frames)
    assert any((a.picture != b.picture).any() for a, b in itertools.pairwise(frames))


@pytest.mark.parametrize("name", [LBF, "jumanji:RobotWarehouse?task=tiny-3ag"])
def test_a_picture_shows_where_everybody_is(name: str) -> None:
    """Under managers and faults too; the cells of two agents change places with them."""
    bare: Any = make(name)
    state, step = jax.jit(bare.init)(jax.random.key(1))
    picture = bare.render(jax.device_get(state))
    assert is_picture(picture)
    env = wrap_env(bare, Hierarchical(every=2).managers(), (Noise(0.1),))
    wrapped, shown = jax.device_get(jax.jit(env.init)(jax.random.key(1)))
    assert renderer(env)(wrapped, shown).shape == picture.shape
    moved = jax.device_get(jax.jit(bare.step)(state, (np.array([1, 3, 2][: bare.agents]),), jax.random.key(2))[0])
    assert (bare.render(moved) != picture).any() and step.first


def test_environments_without_a_picture_show_what_agents_observe() -> None:
    env: Any = make("proving:additive")
    _, step = jax.device_get(env.init(jax.random.key(0)))
    picture = renderer(env)(None, step)
    assert is_picture(picture) and (picture == observations(env.spec, step)).all()
    _, other = jax.device_get(env.init(jax.random.key(5)))
    assert (observations(env.spec, other) != picture).any()


class Blinking:
    """An environment that Python steps, which draws black, then white."""

    spec = make("proving:climbing").spec

    def __init__(self, broken: bool = False) -> None:
        self.t, self.broken = 0, broken

    def reset(self, seed: int) -> Any:
        self.t = 0
        _, step = make("proving:climbing").init(jax.random.key(seed))  # type: ignore[union-attr]
        self.first = jax.device_get(step)
        return self.first

    def step(self, action: Any) -> Any:
        self.t += 1
        return self.first.__class__(
            **{**vars(self.first), "team_reward": np.float32(1), "first": np.bool_(False), "last": np.bool_(self.t == 3)}
        )

    def render(self) -> Any:
        return None if self.broken else np.full((8, 10, 3), 255 * (self.t % 2), np.uint8)


def test_an_environment_of_python_draws_itself() -> None:
    from marlstone.play.action_selectors import Alone

    it = runtime("proving:climbing", 1)
    policy, key = it.placement.first(it.start().train.policy), jax.random.key(0)
    film = lambda env, most=10: list(film_host(env, env.reset, 2, Alone(it.algorithm), policy, key, np.float32(1), most))
    frames = film(Blinking())
    assert [(f.episode, f.step, f.team_return, f.ended) for f in frames[:4]] == [
        (0, 0, 0, False),
        (0, 1, 1, False),
        (0, 2, 2, False),
        (0, 3, 3, True),
    ]
    assert [int(f.picture.max()) for f in frames] == [0, 255, 0, 255] * 2
    assert len(film(Blinking(), 2)) == 6  # given up
    with pytest.raises(UserError, match=r"Blinking\.render gave NoneType: a film needs pictures"):
        film(Blinking(broken=True))
    with pytest.raises(UserError, match="libsumo has no window"):
        rendering("sumo:cologne3", {})


def test_films_are_written_whole(tmp_path: Path) -> None:
    """Pictures of two sizes; the last of each episode stays; a GIF reads back with as many different frames."""
    frame = lambda episode, step, size: Frame(episode, step, np.full((size, size, 3), 40 * step, np.uint8), 0.5, step == 2)
    frames = [frame(e, t, 30 + e) for e in range(2) for t in range(3)]
    shown = pictures(frames, "seed 0, mode")
    assert len(shown) == 6 + 2 * (HELD - 1)
    write_film(tmp_path / "out.gif", shown, 5)
    with Image.open(tmp_path / "out.gif") as film:
        assert film.n_frames == 6 and film.size[0] >= 8 * len("seed 0, mode") and film.size[1] > 31  # type: ignore[attr-defined]
    assert [p.name for p in tmp_path.iterdir()] == ["out.gif"]
    assert captioned(np.zeros((10, 300, 3), np.uint8), "x").shape == (30, 300, 3)


@pytest.mark.parametrize(("name", "why"), [("out.avi", r"write --film out\.gif"), ("nowhere/out.gif", "does not exist: make it first")])
def test_what_cannot_be_written_is_refused_before_anything_is_played(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=why):
        refuse_unwritable(tmp_path / name)
    with pytest.raises(UserError, match=why):
        evaluate_filmed(None, None, 2, tmp_path / name)  # type: ignore[arg-type]


def test_a_board_has_a_cell_for_everything() -> None:
    board = Board(2, 3, cell=10)
    board.square(0, 2, (1, 2, 3), inset=0.0)
    pixels = board.pixels()
    assert pixels.shape == (21, 31, 3) and tuple(pixels[5, 25]) == (1, 2, 3) and tuple(pixels[15, 25]) != (1, 2, 3)


def test_videos_are_written_where_their_package_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("imageio_ffmpeg")
    shown = [captioned(np.full((31, 45, 3), 20 * k, np.uint8), f"step {k}") for k in range(10)]
    write_film(tmp_path / "out.mp4", shown, 5)
    written = (tmp_path / "out.mp4").read_bytes()
    assert written[4:8] == b"ftyp" and len(written) > 1000 and [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    monkeypatch.setattr("marlstone.runs.film.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install marlstone\[film\], or write --film out\.gif"):
        refuse_unwritable(tmp_path / "out.mp4")
