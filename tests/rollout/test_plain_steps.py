"""Plain steps, completed for all environments of a process at once, are the steps that each of them would have made."""

from pathlib import Path

import numpy as np
import pytest

from marlstone.envs.guards import BadStep, Guards
from marlstone.rollout.env_stepper import EnvStepper
from marlstone.rollout.shared_memory import StepBlock, anonymous, arrays, paths

UNUSUAL = f"{Path(__file__).parent / 'unusual_steps.py'}:make"
SHARING = f"{Path(__file__).parent / 'unusual_steps.py'}:sharing"
LBF = "gymnasium:lbforaging?id=Foraging-8x8-2p-2f-coop-v3"


def advances(name, steps, plainly, guards, b=4):
    """Every array after each of some steps at random, what was counted, and the notes."""
    notes = []
    stepper = EnvStepper(name, {}, None, (), guards, 0, b, notes.append)
    block = StepBlock(anonymous(), stepper.spec, b, tuple(stepper.masked()), 1, create=True)
    stepper.attach(block, 0)
    assert stepper.plain is not None
    plain = []
    if plainly:
        stepper.plain.add, add = lambda k, *made: plain.append(k) or add(k, *made), stepper.plain.add
    else:
        stepper.plain = None
    block.seed[:] = np.arange(b)
    rng, out = np.random.default_rng(0), []
    for _ in range(steps):
        block.action[0][...] = rng.integers(0, 3, block.action[0].shape)
        stepper.advance()
        out.append([x.copy() for x in arrays(block.step, block.step)])
    return [np.stack(x) for x in zip(*out, strict=True)], paths(block.step), block.counts[0], block.progress[0][3:], notes, len(plain)


@pytest.mark.parametrize(("name", "package"), [(UNUSUAL, "gymnasium"), (SHARING, "gymnasium"), (LBF, "lbforaging")])
def test_plain_steps_are_the_steps_made_one_by_one(name, package):
    pytest.importorskip(package, reason="comes with an optional part")
    guards = Guards(reward_bounds=(0.0, 2.5))
    one, where, counts, bad, notes, _ = advances(name, 300, False, guards)
    many, _, counts_too, bad_too, notes_too, plain = advances(name, 300, True, guards)
    for path, x, y in zip(where, one, many, strict=True):
        np.testing.assert_array_equal(x, y, path)
    np.testing.assert_array_equal(counts, counts_too)
    np.testing.assert_array_equal(bad, bad_too)
    named = lambda notes: {(n["fault"], n["text"].partition(", got")[0].split(", ")[-1]) for n in notes if n["fault"] != "out_of_range"}
    assert named(notes) == named(notes_too)
    assert plain > 600  # resets are none, nor is anything unusual
    if name != LBF:
        assert (counts > 0).sum() >= 7  # what the test is for did happen


@pytest.mark.parametrize(("only", "fault"), [(0, "out_of_range"), (1, "nan_observation"), (3, "wrong_shape"), (6, "wrong_dtype")])
def test_plain_steps_are_refused_in_the_same_words(only, fault):
    texts = []
    for plainly in (False, True):
        with pytest.raises(BadStep) as raised:
            advances(f"{UNUSUAL}?only={only}", 300, plainly, Guards(on_bad="refuse"))
        texts.append(str(raised.value))
    assert texts[0] == texts[1] and texts[0].startswith(fault)
