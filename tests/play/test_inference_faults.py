"""Answers that do not come in time: the declared fallback acts, as often and as long as declared, and is legal."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Decentralized, Mlp
from marlstone.core.errors import UserError
from marlstone.credit import Individual
from marlstone.envs.make import make
from marlstone.learners import PolicyGradient
from marlstone.play.inference_faults import Late
from tests.batches import quick, rollout

B, T = 8, 60
PAIR = Algorithm(make("proving:pair").spec, Decentralized(Mlp((4,))), Individual(), PolicyGradient())


@dataclass(frozen=True)
class Said:
    """Says what a script says, `[t b ...]`; remembers the row's number, and what key it was given."""

    algorithm: Algorithm = PAIR

    def memory(self, b: int) -> Any:
        return jnp.zeros((), jnp.int32)

    def decide(self, policy: Any, step: Any, memory: Any, key: Any, act: Any) -> Any:
        return jax.tree.map(lambda x: jnp.asarray(x)[memory], policy), memory + 1


def script() -> tuple[Any, Any]:
    """Rows and actions of a random policy, `[t b ...]`: ten episodes of five rows."""
    step, action, _ = rollout("proving:pair", B, T)
    swap = lambda x: np.swapaxes(np.asarray(x), 0, 1)
    return jax.tree.map(lambda x: swap(x)[:T], step), tuple(map(swap, action))


def acted(decider: Any) -> tuple[np.ndarray, ...]:
    """What acts in the place of the script, `[t b ...]`."""
    rows, said = script()

    def tick(memory: Any, x: Any) -> Any:
        row, key = x
        action, memory = decider.decide(said, row, memory, key, 0.0)
        return memory, action

    keys = jax.random.split(jax.random.key(5), T)
    return tuple(np.asarray(x) for x in quick(lambda: jax.lax.scan(tick, decider.memory(B), (rows, keys))[1])())


def legal(rows: Any, players: np.ndarray) -> np.ndarray:
    return np.take_along_axis(np.asarray(rows.legal[0]), players[..., None], -1)[..., 0]


def test_who_is_never_late_says_what_it_said() -> None:
    _, said = script()
    for mine, its in zip(acted(Late(Said(), 0.0)), said, strict=True):
        np.testing.assert_array_equal(mine, its)


def test_who_is_always_late_does_the_default_or_what_is_legal() -> None:
    rows, _ = script()
    players, arm, late = acted(Late(Said(), 1.0))
    mask = np.asarray(rows.legal[0])
    np.testing.assert_array_equal(players, np.where(mask[..., 0], 0, mask.argmax(-1)))
    assert not arm.any() and not late.any() and (players != 0).any()


def test_the_last_action_goes_on_until_the_episode_ends() -> None:
    rows, said = script()
    players, arm, _ = acted(Late(Said(), 0.4, "last"))
    first = np.asarray(rows.first)
    before = np.concatenate([np.zeros_like(arm[:1]), arm[:-1]])
    before[first] = 0
    mine, held = (arm == said[1]).all(-1), (arm == before).all(-1)
    assert (mine | held).all() and abs((~mine).mean() - 0.4) < 0.06 and legal(rows, players).all()
    assert not acted(Late(Said(), 1.0, "last"))[1].any(), "on the first row the default, and then that"


def test_random_answers_are_legal_and_drawn_anew() -> None:
    rows, _ = script()
    players, arm, _ = acted(Late(Said(), 1.0, "random"))
    assert legal(rows, players).all() and len(np.unique(arm)) > 100
    assert min(np.bincount(players.ravel(), minlength=3)) > 0.2 * players.size


def test_bursts_keep_the_rate_and_last_as_long_as_declared() -> None:
    late = Late(Said(), 0.2, bursts=4.0)
    to_bad, to_good = late._chain
    assert to_good == 1 / 4 and to_bad / (to_bad + to_good) == pytest.approx(0.2)
    _, said = script()
    gone = lambda decider: (acted(decider)[1] != said[1]).all(-1)[..., 0]
    rate = lambda x: x.mean()
    again = lambda x: (x[1:] & x[:-1]).sum() / x[:-1].sum()
    alone, bursts = gone(Late(Said(), 0.2)), gone(late)
    assert abs(rate(alone) - 0.2) < 0.06 and abs(rate(bursts) - 0.2) < 0.1
    assert again(bursts) > 2 * again(alone)
    assert gone(Late(Said(), 0.5, bursts=50.0))[0].mean() > 0.2, "from the first row on as often as in the long run"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"rate": 1.1}, "rate is 1.1: give a number from 0 to 1"),
        ({"fallback": "pray"}, "fallback is 'pray'; choose one of: default, last, random"),
        ({"bursts": 0.5}, "bursts is 0.5"),
        ({"rate": 0.9, "bursts": 2.0}, "give at most 0.66"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as error:
        Late(Said(), **fields)
    assert says in str(error.value)
