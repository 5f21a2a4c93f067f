"""Lambda-returns equal the textbooks', written as loops: GAE where data is fresh, V-trace where it is stale; through pauses and resets."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.returns import vtrace
from tests.batches import quick

GAMMA, LAM = 0.9, 0.7
T, N = 23, 5


def numbers(seed: int, ends: bool = False, pauses: bool = False, stale: bool = False) -> dict[str, np.ndarray]:
    """Rows of `N` streams: values `[T+1 N]`, the rest `[T N]`. A reset row follows every end; half of the ends terminate."""
    rng = np.random.default_rng(seed)
    last = rng.random((T, N)) < (0.2 if ends else 0.0)  # row t+1 is an episode's last, so the transition t+1 is a reset
    for t in range(1, T):
        last[t] &= ~last[t - 1]
    discount = np.where(last & (rng.random((T, N)) < 0.5), 0.0, 1.0)
    real = np.ones((T, N), bool)
    real[1:] = ~last[:-1]
    acts = real & ((rng.random((T, N)) < 0.6) if pauses else True)
    rho = np.where(acts, np.exp(rng.normal(size=(T, N))), 1.0) if stale else np.ones((T, N))
    reward = np.where(real, rng.normal(size=(T, N)), 0.0)
    return {
        "value": rng.normal(size=(T + 1, N)),
        "reward": reward,
        "discount": np.where(real, discount, 1.0),
        "rho": rho,
        "acts": acts,
        "real": real,
    }


def computed(x: dict[str, np.ndarray], gamma: float = GAMMA, lam: float = LAM) -> tuple[np.ndarray, np.ndarray]:
    out = quick(vtrace)(*(jnp.asarray(v, bool if v.dtype == bool else jnp.float32) for v in x.values()), gamma, lam)
    return np.asarray(out[0]), np.asarray(out[1])


def episodes(x: dict[str, np.ndarray], n: int) -> list[tuple[int, int]]:
    """`[begin, end)` of the transitions between resets; value[end] bootstraps them."""
    cuts = [-1, *np.flatnonzero(~x["real"][:, n]), T]
    return [(a + 1, b) for a, b in pairwise(cuts) if b > a + 1]


def gae(value: np.ndarray, reward: np.ndarray, discount: np.ndarray) -> np.ndarray:
    """Schulman et al. 2016, as it is always written."""
    out, trace = np.zeros(len(reward)), 0.0
    for t in reversed(range(len(reward))):
        delta = reward[t] + GAMMA * discount[t] * value[t + 1] - value[t]
        trace = delta + GAMMA * LAM * discount[t] * trace
        out[t] = trace
    return out


def test_fresh_data_gives_textbook_gae() -> None:
    x = numbers(0)
    x["discount"] = np.where(np.random.default_rng(9).random((T, N)) < 0.2, 0.0, 1.0)
    a, vs = computed(x)
    for n in range(N):
        np.testing.assert_allclose(a[:, n], gae(x["value"][:, n], x["reward"][:, n], x["discount"][:, n]), atol=1e-5)
    np.testing.assert_allclose(vs, x["value"][:-1] + a, atol=1e-5)


def test_stale_data_gives_espeholts_n_step_vtrace() -> None:
    """vs_s = v_s + sum_t gamma^(t-s) (prod_{i<t} c_i) rho_t (r_t + gamma v_{t+1} - v_t), forwards, with lam = 1 and bars of 1."""
    x = numbers(1, stale=True)
    _, vs = computed(x, lam=1.0)
    clipped = np.minimum(x["rho"], 1.0)
    for n in range(N):
        for s in range(T):
            total, weight = x["value"][s, n], 1.0
            for t in range(s, T):
                delta = x["reward"][t, n] + GAMMA * x["discount"][t, n] * x["value"][t + 1, n] - x["value"][t, n]
                total += weight * clipped[t, n] * delta
                weight *= GAMMA * x["discount"][t, n] * clipped[t, n]
            np.testing.assert_allclose(vs[s, n], total, atol=2e-5)
    assert (x["rho"] > 1.5).any() and (x["rho"] < 0.5).any()


def test_advantage_is_that_of_impala() -> None:
    """With lam = 1, the policy gradient's r + gamma vs' - v (Espeholt et al. 2018, section 4.2)."""
    x = numbers(2, stale=True)
    a, vs = computed(x, lam=1.0)
    after = np.concatenate([vs[1:], x["value"][-1:]])
    np.testing.assert_allclose(a, x["reward"] + GAMMA * x["discount"] * after - x["value"][:-1], atol=1e-5)


def test_trace_restarts_at_resets() -> None:
    """Every episode alone, bootstrapped from its own final value unless it terminated, gives what the whole stream gave."""
    x = numbers(3, ends=True)
    a, vs = computed(x)
    kinds = set()
    for n in range(N):
        for begin, end in episodes(x, n):
            part = gae(x["value"][begin : end + 1, n], x["reward"][begin:end, n], x["discount"][begin:end, n])
            np.testing.assert_allclose(a[begin:end, n], part, atol=1e-5)
            np.testing.assert_allclose(vs[begin:end, n], x["value"][begin:end, n] + part, atol=1e-5)
            kinds |= {(end < T, float(x["discount"][end - 1, n]))}
    assert kinds >= {(True, 0.0), (True, 1.0), (False, 1.0)}


@pytest.mark.parametrize("stale", [False, True])
def test_rewards_accumulate_between_decisions(stale: bool) -> None:
    """A stream in which an agent pauses equals the stream of its decisions alone, each rewarded by the discounted sum until the next."""
    x = numbers(4, ends=True, pauses=True, stale=stale)
    a, vs = computed(x)
    met = 0
    for n in range(N):
        for begin, end in episodes(x, n):
            trace, following = 0.0, x["value"][end, n]  # of the next decision: vs' - v', v'
            reward, discount = 0.0, 1.0
            for t in reversed(range(begin, end)):
                g = GAMMA * x["discount"][t, n]
                reward, discount = x["reward"][t, n] + g * reward, g * discount
                if not x["acts"][t, n]:
                    continue
                advantage = reward + discount * following - x["value"][t, n] + LAM * discount * trace
                trace = min(x["rho"][t, n], 1.0) * advantage
                np.testing.assert_allclose(a[t, n], advantage, atol=1e-5)
                np.testing.assert_allclose(vs[t, n], x["value"][t, n] + trace, atol=1e-5)
                following, reward, discount, met = x["value"][t, n], 0.0, 1.0, met + 1
    assert met > 20 and (~x["acts"] & x["real"]).sum() > 20


def test_advantages_are_linear_in_reward_and_so_is_their_gradient() -> None:
    """What shaping differentiates: the same numbers by a tangent as by paying twice."""
    x = {k: jnp.asarray(v, bool if v.dtype == bool else jnp.float32) for k, v in numbers(5).items()}
    f = lambda reward: vtrace(x["value"], reward, *list(x.values())[2:], GAMMA, LAM)
    more = jnp.asarray(np.random.default_rng(0).normal(size=x["reward"].shape), jnp.float32)
    now, slope = jax.jvp(f, (x["reward"],), (more,))
    for a, b, c in zip(now, slope, f(x["reward"] + more)):
        assert np.asarray(b).any()
        np.testing.assert_allclose(a + b, c, atol=1e-4)
