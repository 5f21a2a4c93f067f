"""One step of tools and memory: what agents call is admitted, waits, fails or arrives. Arrays of one environment, in NumPy and JAX.

    calls, state  ->  state        state  ->  what agents see

An attempt of a delay line takes its latency, or the timeout where that is shorter, and then fails; it fails by chance as well. A call lasts
until its first attempt that succeeds, or its last. All of it is drawn when the call is made, by uniform numbers that are an input, so that
JAX and NumPy agree. Shapes: `n` agents, `T` tools, `K` numbers of the longest result, `I` priced items, `m` memories of `S` slots of `W`.
"""

from typing import Any

import numpy as np

from marlstone.core.arrays import Array
from marlstone.core.records import record, replace
from marlstone.tools.memory import ExternalMemory
from marlstone.tools.toolbox import Toolbox

UNTIL_TOLD = 1 << 20  # steps that a real call is awaited: until it is told


@record
class Request:
    """What agents ask for at one step: `choice [n]`; what they would write, `content [n W]`, and look up by, `key [n W]`."""

    choice: Array
    content: Array
    key: Array


@record
class ToolState:
    """What an episode has of tools and memory.

    Of every call: `left [n T]`, steps until its outcome (0: none is pending); `ok`, `coming`: whether it succeeds, and with what. Of every
    tool: its last `result [n T K]`, whether there is one (`valid`), its `age`; whether the last call `failed`; `calls` made so far. Of the
    last step: `called [n T]` with which `argument`, and what was `used [n 6]`. `level [I]` of prices, and the `price [I]`; `t []`, steps.

    Of the memory: `slots [m S W]`, which are `written [m S]`, writes so far `wrote [m]`; the last look-up `read [n W]`, its `read_age [n]`
    (-1: none), `reads` and `writes [n]` so far.
    """

    t: Array
    level: Array
    price: Array
    left: Array
    ok: Array
    coming: Array
    result: Array
    valid: Array
    age: Array
    failed: Array
    calls: Array
    called: Array
    argument: Array
    used: Array
    slots: Array
    written: Array
    wrote: Array
    read: Array
    read_age: Array
    reads: Array
    writes: Array


@record
class Draws:
    """Uniform numbers that one step takes: `attempt [attempts 2 n T]`, whether each fails and how long it takes; `price [2 I]`, whether
    each changes, and to which."""

    attempt: Array
    price: Array


def draw_shapes(box: Toolbox, n: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of `Draws`."""
    most = max((t.attempts for t in box.tools if not t.real), default=0)
    return (most, 2, n, len(box.tools)), (2, len(box.levels))


def memories(memory: ExternalMemory, n: int) -> int:
    """How many memories there are."""
    return 0 if not memory.slots else 1 if memory.shared else n


def begin(box: Toolbox, n: int, price: Array, xp: Any) -> ToolState:
    """Where an episode starts: nothing was called, nothing is stored. Args: `price [2 I]`, uniform, by which prices are drawn."""
    tools, k, memory = len(box.tools), box.width, box.memory
    m = memories(memory, n)
    whole, yes = (lambda *shape: xp.zeros(shape, np.int32)), (lambda *shape: xp.zeros(shape, bool))
    real = lambda *shape: xp.zeros(shape, np.float32)
    count = np.array([len(ls) for ls in box.levels], np.int32)
    level = xp.minimum((price[1] * count).astype(np.int32), count - 1).astype(np.int32)
    w, per = memory.width, (n, tools)
    return ToolState(
        t=whole(), level=level, price=prices(box, level), left=whole(*per), ok=yes(*per), coming=real(*per, k), result=real(*per, k),
        valid=yes(*per), age=whole(*per), failed=yes(*per), calls=whole(*per), called=yes(*per), argument=whole(*per), used=real(n, 6),
        slots=real(m, memory.slots, w), written=yes(m, memory.slots), wrote=whole(m), read=real(n, w), read_age=whole(n) - 1,
        reads=whole(n), writes=whole(n),
    )  # fmt: skip


def prices(box: Toolbox, level: Array) -> Array:
    """What every item costs now, `[I]`."""
    xp = level.__array_namespace__()
    picked = xp.arange(box.table.shape[1]) == level[:, None]
    return xp.sum(xp.where(picked, box.table, np.float32(0)), axis=1)


def allowed(box: Toolbox, owners: np.ndarray, state: ToolState, acts: Array) -> Array:
    """Which choices agents have now, `[n choices]`; `none` always. Args: `owners [n choices]`, who has what; `acts [n]`: whose action
    counts."""
    xp = acts.__array_namespace__()
    open_ = state.left == 0
    for i, t in enumerate(box.tools):
        free = open_[:, i]
        if t.calls:
            free = free & (state.calls[:, i] < t.calls)
        if t.team_calls:
            free = free & (xp.sum(state.calls[:, i]) < t.team_calls)
        open_ = _column(open_, i, free, xp)
    parts = [open_[:, box.tool_of]] if box.tools else []
    m = box.memory
    for count, most, ways in ((state.writes, m.writes, m.write_ways), (state.reads, m.reads, m.ways)) if m.slots else ():
        free = count < most if most else xp.ones_like(acts)
        parts.append(xp.broadcast_to(free[:, None], (free.shape[0], ways)))
    rest = xp.concat(parts, axis=-1) & owners[:, 1:] & acts[:, None]
    return xp.concat([xp.ones_like(acts)[:, None], rest], axis=-1)


def after(box: Toolbox, state: ToolState, request: Request, may: Array, source: Array, draws: Draws) -> ToolState:
    """What is after one step. Args: `may [n choices]`, as `allowed` said of the step in which the request was made; `source [n *]`: the
    leaves that delay lines read in it, one after another, in the order of the tools; then what the memory stores."""
    xp, n = request.choice.__array_namespace__(), may.shape[0]
    chosen = (request.choice[:, None] == xp.arange(box.choices)) & may
    calls = len(box.tool_of)
    state, used = _called(box, state, chosen[:, 1 : 1 + calls], source, draws, xp) if box.tools else (state, xp.zeros((n, 6), np.float32))
    if box.memory.slots:
        if box.memory.stores:
            request = replace(request, content=source[:, source.shape[1] - box.memory.width :])
        at = 1 + calls + box.memory.write_ways
        writes, reads = chosen[:, 1 + calls : at], chosen[:, at:]
        state, more = _remembered(box, state, writes, reads, request, xp)
        used = used + more
    moved = draws.price[0] < box.changes
    count = np.array([len(ls) for ls in box.levels], np.int32)
    others = xp.maximum(count - 1, 1)
    by = 1 + xp.minimum((draws.price[1] * others).astype(np.int32), others - 1)
    level = xp.where(moved, (state.level + by) % count, state.level).astype(np.int32)
    return replace(state, t=state.t + 1, level=level, price=prices(box, level), used=used)


def arrive(box: Toolbox, state: ToolState, came: Array, good: Array, value: Array, attempts: Array) -> ToolState:
    """The state after real calls' outcomes were told, `[n T]` each and `value [n T K]`; `attempts` beyond what was counted, paid at prices
    now."""
    xp = came.__array_namespace__()
    came = came & (state.left > 0)
    got = came & good
    more = attempts.astype(np.float32)
    paid = xp.sum(more * state.price[: len(box.tools)], axis=1)
    many, zero = xp.sum(more, axis=1), xp.zeros(came.shape[0], np.float32)
    return replace(
        state, left=xp.where(came, 0, state.left).astype(np.int32), result=xp.where(got[..., None], value, state.result),
        valid=state.valid | got, age=xp.where(got, 0, state.age).astype(np.int32), failed=xp.where(came, ~good, state.failed),
        used=state.used + xp.stack([zero, many, many, zero, zero, paid], axis=-1),
    )  # fmt: skip


def _called(box: Toolbox, state: ToolState, chosen: Array, source: Array, draws: Draws, xp: Any) -> tuple[ToolState, Array]:
    tools = len(box.tools)
    of_tool = (box.tool_of[:, None] == np.arange(tools)).astype(np.int32)
    wanted = (chosen.astype(np.int32) @ of_tool) > 0  # [n T]
    argument = chosen.astype(np.int32) @ (of_tool * box.argument_of[:, None])
    called = wanted & _in_turn(box, state, wanted, xp)
    refused = wanted & ~called
    ok, lasts, attempts = _fates(box, called, draws, xp)
    coming = _read(box, argument, source, xp)
    left = xp.where(called, lasts, state.left)
    ok, coming = xp.where(called, ok, state.ok), xp.where(called[..., None], coming, state.coming)
    now = xp.where(left > 0, left - 1, 0).astype(np.int32)
    here = (left > 0) & (now == 0)
    got = here & ok
    price = state.price[:tools]
    counts = [called, attempts, xp.where(called, attempts - 1, 0)]
    sums = [xp.sum(x, axis=1).astype(np.float32) for x in counts]
    zero = xp.zeros_like(sums[0])
    used = xp.stack([*sums, zero, zero, xp.sum(attempts.astype(np.float32) * price, axis=1)], axis=-1)
    state = replace(
        state, left=now, ok=ok, coming=coming, result=xp.where(got[..., None], coming, state.result), valid=state.valid | got,
        age=xp.where(got, 0, state.age + 1).astype(np.int32),
        failed=xp.where(here, ~ok, xp.where(called, False, state.failed)) | refused,
        calls=state.calls + called.astype(np.int32), called=called, argument=argument.astype(np.int32),
    )  # fmt: skip
    return state, used


def _in_turn(box: Toolbox, state: ToolState, wanted: Array, xp: Any) -> Array:
    """Which calls budgets of the team allow, agents in turn; who is first moves on with every step."""
    most = np.array([t.team_calls for t in box.tools], np.int32)
    if not most.any():
        return xp.ones_like(wanted)
    n = wanted.shape[0]
    order, place = (xp.arange(n) + state.t) % n, (xp.arange(n) - state.t) % n
    so_far = xp.cumsum(wanted[order].astype(np.int32), axis=0)[place]
    return (most == 0) | (xp.sum(state.calls, axis=0) + so_far <= most)


def _fates(box: Toolbox, called: Array, draws: Draws, xp: Any) -> tuple[Array, Array, Array]:
    """Of every call that is made now: whether it succeeds, after how many steps its outcome is there, and in how many attempts, 0 where
    none is made, `[n T]` each. Of real tools: the first attempt is counted, the rest is told later."""
    per_tool = lambda of: np.array([of(t) for t in box.tools])
    real, most = per_tool(lambda t: t.real), per_tool(lambda t: t.attempts)
    low, high = per_tool(lambda t: t.latencies[0]), per_tool(lambda t: t.latencies[1])
    limit = per_tool(lambda t: t.timeout if t.timeout and not t.real else UNTIL_TOLD).astype(np.int32)
    failure = per_tool(lambda t: t.failure).astype(np.float32)
    ok, lasts = xp.zeros_like(called), xp.zeros(called.shape, np.int32)
    attempts = xp.zeros(called.shape, np.int32)
    for a in range(draws.attempt.shape[0]):
        tries = called & ~ok & (a < most)
        takes = low + xp.minimum((draws.attempt[a, 1] * (high - low + 1)).astype(np.int32), high - low)
        succeeds = (draws.attempt[a, 0] >= failure) & (takes <= limit)
        lasts = lasts + xp.where(tries, xp.minimum(takes, limit), 0).astype(np.int32)
        attempts = attempts + tries.astype(np.int32)
        ok = ok | (tries & succeeds)
    if real.any():
        lasts = xp.where(real & called, UNTIL_TOLD, lasts).astype(np.int32)
        attempts = xp.where(real, called.astype(np.int32), attempts)
    return ok, lasts, attempts


def _read(box: Toolbox, argument: Array, source: Array, xp: Any) -> Array:
    """What calls with this argument would read now, `[n T K]`; 0 of real tools."""
    n, out, at = argument.shape[0], [], 0
    for i, t in enumerate(box.tools):
        if t.real:
            out.append(xp.zeros((n, box.width), np.float32))
            continue
        wide = t.arguments * t.size
        leaf = source[:, at : at + wide].reshape(n, t.arguments, t.size)
        at += wide
        picked = (xp.arange(t.arguments) == argument[:, i, None])[..., None]
        mine = xp.sum(xp.where(picked, leaf, 0), axis=1).astype(np.float32)
        out.append(xp.concat([mine, xp.zeros((n, box.width - t.size), np.float32)], axis=-1))
    return xp.stack(out, axis=1)


def _remembered(box: Toolbox, state: ToolState, writes: Array, reads: Array, request: Request, xp: Any) -> tuple[ToolState, Array]:
    """Look-ups, then writes."""
    memory, n = box.memory, writes.shape[0]
    m = state.slots.shape[0]
    each = lambda x: xp.broadcast_to(x, (n, *x.shape[1:]))  # of every agent its own, or the one that all share
    slots, written = each(state.slots), each(state.written)
    looks = xp.any(reads, axis=1)
    stores = xp.any(request.content != 0 if memory.automatic else writes, axis=1)
    if memory.lookup == "slot":
        found = xp.sum(xp.where(reads[..., None], slots, 0), axis=1)
        there = xp.any(reads & written, axis=1)
    else:
        score = xp.sum(slots * request.key[:, None], axis=-1) / np.float32(np.sqrt(memory.width))
        score = xp.where(written, score, np.float32(-1e9))
        weight = xp.where(written, xp.exp(score - xp.max(score, axis=1, keepdims=True)), 0)
        found = xp.sum(slots * (weight / xp.maximum(xp.sum(weight, axis=1, keepdims=True), 1e-9))[..., None], axis=1)
        there = looks & xp.any(written, axis=1)
    if memory.lookup == "slot" and not memory.automatic:
        target = writes
    else:
        before = xp.cumsum(stores.astype(np.int32)) - stores if memory.shared else xp.zeros(n, np.int32)
        turn = (xp.broadcast_to(state.wrote, (n,)) + before) % memory.slots
        target = (xp.arange(memory.slots) == turn[:, None]) & stores[:, None]
    if memory.shared:  # the last in the order of agents counts
        last = xp.max(xp.where(target, xp.arange(1, n + 1)[:, None], 0), axis=0)
        wins = (xp.arange(1, n + 1)[:, None] == last) & target
        fresh = xp.sum(xp.where(wins[..., None], request.content[:, None], 0), axis=0)[None]
        hit = xp.any(target, axis=0)[None]
    else:
        fresh, hit = xp.broadcast_to(request.content[:, None], (m, memory.slots, memory.width)), target
    many = stores.astype(np.int32)
    tools = len(box.tools)
    price = state.price
    one, zero = looks.astype(np.float32), xp.zeros(n, np.float32)
    wrote = stores.astype(np.float32)
    used = xp.stack([zero, zero, zero, one, wrote, one * price[tools] + wrote * price[tools + 1]], axis=-1)
    state = replace(
        state, slots=xp.where(hit[..., None], fresh, state.slots).astype(np.float32), written=state.written | hit,
        wrote=state.wrote + (xp.sum(many).astype(np.int32)[None] if memory.shared else many),
        read=xp.where(looks[:, None], xp.where(there[:, None], found, 0), state.read).astype(np.float32),
        read_age=xp.where(looks, xp.where(there, 0, -1), xp.where(state.read_age >= 0, state.read_age + 1, -1)).astype(np.int32),
        reads=state.reads + looks.astype(np.int32), writes=state.writes + many,
    )  # fmt: skip
    return state, used


def _column(x: Array, i: int, value: Array, xp: Any) -> Array:
    """`x` with another column."""
    return xp.concat([x[:, :i], value[:, None], x[:, i + 1 :]], axis=1)
