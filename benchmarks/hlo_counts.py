"""Kernels, bytes and products that a compiled XLA program executes, counted from its optimized HLO text.

A *kernel* is one instruction of a computation that runs: a fusion, dot, copy, reduce, sort, custom call ... What moves no data (parameters,
constants, tuples and their elements, bitcasts) is none; calls are followed; a loop counts as often as its known trip count says, a
conditional as its branches weighted by how often each is taken. Bytes are those that cross the boundary of a kernel: operands and outputs.
An operand that a fusion only slices or gathers from counts what is taken, and a buffer updated in place counts the update.

The loop in which the CPU compiler draws threefry's random bits (five rounds, each of a few kernels) counts as one kernel that reads and
writes its words once: that is what it is on a GPU, and neither side should be charged for the difference.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier", "partition-id", "replica-id"}
TAKEN = {"dynamic-slice", "slice", "gather"}  # read only a part of their first operand
SIZES = {"pred": 1, "bf16": 2, "token": 0}
Weights = Callable[[str, int], Sequence[float]]  # (op_name, branches) of a conditional -> how often each branch is taken


@dataclass(frozen=True)
class Instruction:
    """One line of HLO: `name = type opcode(operands), attributes`."""

    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]
    inside: str  # the text between the opcode's parentheses
    attributes: str
    root: bool

    @cached_property
    def bytes(self) -> int:
        """Of the output, all elements of a tuple together."""
        return sum(_size(kind) * _elements(dims) for kind, dims in re.findall(r"\b([a-z]\w*)\[([\d,]*)\]", self.type))

    @cached_property
    def op_name(self) -> str:
        """Where the instruction comes from in the traced program; a fusion has one name for all that it joins."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found.group(1) if found else ""

    def called(self, attribute: str) -> list[str]:
        """Names of the computations that an attribute refers to."""
        found = re.search(rf"\b{attribute}=(\{{[^}}]*\}}|%[\w.\-]+)", self.attributes)
        return re.findall(r"%([\w.\-]+)", found.group(1)) if found else []

    @property
    def trips(self) -> int | None:
        """How often a loop's body runs; None where the compiler does not know."""
        found = re.search(r'"known_trip_count":\{"n":"(\d+)"', self.attributes)
        return int(found.group(1)) if found else None

    @property
    def draws_bits(self) -> bool:
        """Whether this is threefry's loop: five rounds over words, keys and two vectors of four rotations."""
        return self.opcode == "while" and self.type.count("u32[4]{0}") >= 2 and '"known_trip_count":{"n":"5"' in self.attributes


def _size(kind: str) -> int:
    digits = re.search(r"\d+", kind)
    return SIZES[kind] if kind in SIZES else max(1, int(digits.group()) // 8) if digits else 0


def _elements(dims: str) -> int:
    return prod(int(d) for d in dims.split(",") if d)


@dataclass
class Counts:
    """What runs: kernels, bytes read and written, FLOPs of products, waits; and kernels and bytes by where they come from."""

    kernels: float = 0.0
    bytes: float = 0.0
    flops: float = 0.0
    waits: float = 0.0
    by_name: dict[str, Counter[str]] = field(default_factory=lambda: {"kernels": Counter(), "bytes": Counter()})

    def add(self, other: "Counts", times: float = 1.0) -> None:
        """Add what another part of the program runs, `times` times."""
        self.kernels += times * other.kernels
        self.bytes += times * other.bytes
        self.flops += times * other.flops
        self.waits += times * other.waits
        for what, counter in other.by_name.items():
            for name, x in counter.items():
                self.by_name[what][name] += times * x

    def kernel(self, x: Instruction, size: float) -> None:
        """Add one kernel that moves `size` bytes."""
        self.kernels += 1
        self.bytes += size
        self.by_name["kernels"][f"{x.opcode} {x.op_name}"] += 1
        self.by_name["bytes"][f"{x.opcode} {x.op_name}"] += size


def _evenly(op_name: str, branches: int) -> Sequence[float]:
    return [1 / branches] * branches


class Program:
    """A compiled program, from `compiled.as_text()`.

    `weights` says how often a conditional takes each branch (default: equally often), `rounds` how often a loop of unknown length runs on
    average (None: such a loop is refused with ValueError).
    """

    def __init__(self, text: str, weights: Weights = _evenly, rounds: float | None = None) -> None:
        self.computations: dict[str, list[Instruction]] = {}
        self.weights, self.rounds, self.entry, self._known = weights, rounds, "", dict[str, Counts]()
        name = ""
        for line in text.splitlines():
            if (head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)) and not line.startswith(" "):
                name = head.group(2)
                self.computations[name] = []
                self.entry = name if head.group(1) else self.entry
            elif line.startswith("  ") and " = " in line:
                self.computations[name].append(_instruction(line))

    def find(self, computation: str) -> dict[str, Instruction]:
        """The instructions of a computation by name, in the order in which they run."""
        return {x.name: x for x in self.computations[computation]}

    def count(self, computation: str) -> Counts:
        """What one execution of a computation runs."""
        if computation not in self._known:
            total = Counts()
            here = self.find(computation)
            for x in here.values():
                total.add(self.count_one(x, here))
            self._known[computation] = total
        return self._known[computation]

    def count_one(self, x: Instruction, here: dict[str, Instruction]) -> Counts:
        """What one instruction of a computation runs, loops, calls and conditionals included."""
        total = Counts()
        if x.draws_bits:
            words = sorted((Instruction("", t, "", (), "", "", False).bytes for t in re.findall(r"\w+\[[\d,]*\]", x.type)), reverse=True)[
                :2
            ]
            total.kernel(x, 2 * sum(words))
        elif x.opcode == "while":
            if (rounds := x.trips if x.trips is not None else self.rounds) is None:
                raise ValueError(f"loop {x.name} ({x.op_name}) has no known length: say how many rounds it takes on average")
            total.add(self.count(x.called("body")[0]), rounds)
            total.waits += x.trips is None
        elif x.opcode == "conditional":
            branches = x.called("branch_computations") or [*x.called("true_computation"), *x.called("false_computation")]
            for name, weight in zip(branches, self.weights(x.op_name, len(branches)), strict=True):
                total.add(self.count(name), weight)
            total.waits += 1
        elif x.opcode == "call":
            total.add(self.count(x.called("to_apply")[0]))
        elif x.opcode not in FREE:
            total.kernel(x, self._moved(x, here))
            total.flops += sum(self._products(x, here))
        return total

    def _products(self, x: Instruction, here: dict[str, Instruction]) -> Iterator[float]:
        if x.opcode == "dot":
            dims = [int(d) for d in re.search(r"\[([\d,]*)\]", here[x.operands[0]].type).group(1).split(",") if d]  # type: ignore[union-attr]
            over = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", x.attributes)
            summed = prod(dims[int(d)] for d in over.group(1).split(",") if d) if over else 1
            yield 2.0 * _elements(re.search(r"\[([\d,]*)\]", x.type).group(1)) * summed  # type: ignore[union-attr]
        elif x.opcode == "fusion":
            inner = self.find(x.called("calls")[0])
            for y in inner.values():
                yield from self._products(y, inner)

    # ---- bytes at the boundary
    def _moved(self, x: Instruction, here: dict[str, Instruction]) -> int:
        size = lambda name: here[name].bytes
        if x.opcode == "fusion":
            return self._fusion(x)
        if x.opcode in TAKEN:
            return 2 * x.bytes + sum(size(o) for o in x.operands[1:] if x.opcode == "gather")
        if x.opcode == "dynamic-update-slice":
            return 2 * size(x.operands[1])
        if x.opcode == "scatter":
            return size(x.operands[1]) + 2 * size(x.operands[2])
        return x.bytes + sum(size(o) for o in dict.fromkeys(x.operands))

    def _fusion(self, x: Instruction) -> int:
        inner = self.find(x.called("calls")[0])
        users: dict[str, list[Instruction]] = {}
        for y in inner.values():
            for o in dict.fromkeys(y.operands):
                users.setdefault(o, []).append(y)
        root = next(y for y in inner.values() if y.root)
        outputs = [inner[o] for o in root.operands] if root.opcode == "tuple" else [root]
        written, in_place = 0, set()
        for out in outputs:
            out = _through(out, inner)
            if out.opcode == "dynamic-update-slice":
                written += inner[out.operands[1]].bytes
                in_place.add(_through(inner[out.operands[0]], inner).name)
            else:
                written += out.bytes
        return written + sum(_read(y, users, in_place) for y in inner.values() if y.opcode == "parameter")


def _through(x: Instruction, inner: dict[str, Instruction]) -> Instruction:
    """What a chain of bitcasts shows."""
    while x.opcode == "bitcast":
        x = inner[x.operands[0]]
    return x


def _read(x: Instruction, users: dict[str, list[Instruction]], in_place: set[str]) -> int:
    """Bytes that a fusion reads of one operand."""
    taken, open_ = 0, [x]
    while open_:
        y = open_.pop()
        for user in users.get(y.name, []):
            if user.opcode == "bitcast":
                open_.append(user)
            elif user.opcode in TAKEN and user.operands[0] == y.name:
                taken += user.bytes
            elif not (user.opcode == "dynamic-update-slice" and user.operands[0] == y.name and x.name in in_place):
                return x.bytes
    return min(taken, x.bytes)


def _instruction(line: str) -> Instruction:
    left, right = line.strip().split(" = ", 1)
    end = _closing(right) if right.startswith("(") else right.index(" ")
    kind, rest = right[:end].strip(), right[end:].strip()
    at = rest.index("(")
    stop = at + _closing(rest[at:])
    inside = rest[at + 1 : stop - 1]
    opcode = rest[:at]
    operands = () if opcode == "constant" else tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(left.removeprefix("ROOT ").lstrip("%"), kind, opcode, operands, inside, rest[stop:], left.startswith("ROOT "))


def _closing(text: str) -> int:
    """Index after the parenthesis that closes the first one."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return i + 1
    raise ValueError(f"unbalanced: {text[:80]}")


@dataclass(frozen=True)
class Update:
    """One update's parts: what runs before the rollout's loop for its sake, one step of that loop, and the learning after it."""

    before: Counts
    step: Counts
    learning: Counts
    steps: int


def split(program: Program, computation: str, steps: int) -> Update:
    """Of the computation of one update: the rollout is its first loop of `steps` rounds that holds a product, and what it depends on.

    Raises ValueError where there is no such loop.
    """
    here = program.find(computation)
    loops = (x for x in here.values() if x.opcode == "while" and not x.draws_bits and x.trips == steps)
    loop = next((x for x in loops if program.count(x.called("body")[0]).flops), None)
    if loop is None:
        raise ValueError(f"{computation} has no loop of {steps} rounds with a product in it: is this one update?")
    needed, open_ = set(), [*loop.operands]
    while open_:
        name = open_.pop()
        if name not in needed:
            needed.add(name)
            open_ += here[name].operands
    before, learning = Counts(), Counts()
    for x in here.values():
        if x is not loop:
            (before if x.name in needed else learning).add(program.count_one(x, here))
    return Update(before, program.count(loop.called("body")[0]), learning, steps)
