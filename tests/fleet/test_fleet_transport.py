"""What travels through a fleet: nothing twice, nothing damaged, nothing uncounted, and no wait without an end."""

import contextlib
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marlstone.fleet import frames
from marlstone.fleet.broker import WORDS, Broker
from marlstone.fleet.handshake import SMALL, Stranger, admit, introduce
from marlstone.fleet.payload import Parcel, Weights
from marlstone.fleet.transport import Here, Linked, answers, serve
from tests.fleet.faulty_end import Faulty

ARRAYS = [np.arange(12, dtype=np.float32).reshape(3, 4), np.array([True, False]), np.zeros((2, 0), np.int32), np.array(7)]


def parcel(seq: int, actor: int = 0, life: int = 0, envs: int = 2) -> Parcel:
    return Parcel(0, actor, life, seq, 0, envs, [x + seq if x.dtype != bool else x for x in ARRAYS], {"steps": seq})


@pytest.fixture
def linked() -> Iterator[tuple[Broker, Linked, list[int]]]:
    """A broker, an end over a socket, and how often a damaged frame came."""
    broker, damaged = Broker(1, 1000), [0]
    ours, theirs = socket.socketpair()

    def count() -> None:
        damaged[0] += 1

    served = threading.Thread(target=serve, args=(theirs, answers(broker, {}), count))
    served.start()
    with ours:
        yield broker, Linked(ours), damaged
    served.join(5)
    assert not served.is_alive()


def drained(broker: Broker) -> list[Parcel]:
    out = []
    while (p := broker.take(0, 0.0)) is not None:
        out.append(p)
    return out


@pytest.mark.parametrize("fault", [{"twice": 0.5}, {"reorder": 0.5}, {"corrupt": 0.5}, {"lose": 0.5},
                                   {"twice": 0.2, "reorder": 0.2, "corrupt": 0.2, "lose": 0.2, "delay": 0.002}])  # fmt: skip
def test_whatever_happens_on_the_way_no_parcel_comes_twice_or_damaged(linked: Any, fault: dict[str, float]) -> None:
    broker, end, damaged = linked
    faulty, sent = Faulty(end, seed=1, **fault), {}
    for seq in range(60):
        sent[seq] = parcel(seq)
        while faulty.put(sent[seq], 0.1) == "damaged":
            pass
    came = drained(broker)
    assert len({p.seq for p in came}) == len(came)
    for p in came:
        assert p.words() == sent[p.seq].words()
        for x, y in zip(p.arrays, sent[p.seq].arrays, strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)
    facts = broker.facts()[0]
    assert facts["accepted"] == 2 * len(came) == facts["in_hand"]
    assert (damaged[0] > 0) == ("corrupt" in fault)
    assert (facts["refused"] > 0) == ("twice" in fault)
    held = len(faulty.held)
    assert len(came) == 60 - held if "lose" not in fault else len(came) < 60


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 10_000), st.integers(1, 255))
def test_rubbish_is_never_taken_for_a_frame(noise: bytes, at: int, flip: int) -> None:
    frame = bytearray(frames.encode({"ask": "put", "n": [1, 2]}, ARRAYS))
    at = at % len(frame)
    frame[at] ^= flip
    for sent in (bytes(frame), noise):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(sent)
            ours.shutdown(socket.SHUT_WR)
            with pytest.raises((frames.BadFrame, frames.Gone)):
                frames.receive(theirs)


def test_whoever_speaks_another_language_is_hung_up_on(linked: Any) -> None:
    _, end, damaged = linked
    end.link.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with contextlib.suppress(ConnectionResetError):
        assert end.link.recv(10) == b""
    assert damaged[0] == 1


@pytest.mark.parametrize("other", [np.array([{}], dtype=object), np.array(["text"]), np.array(["2026-11-24"], dtype="datetime64[D]")])
def test_nothing_but_numbers_travels(other: np.ndarray) -> None:
    frame = frames.encode({}, [other])
    _, words, _, check = frames.HEADER.unpack(frame[: frames.HEADER.size])
    content = memoryview(frame)[frames.HEADER.size :]
    with pytest.raises(frames.BadFrame, match="may not travel"):
        frames.decode(content[:words], content[words:], check)


def test_the_queue_is_bounded_and_every_wait_ends() -> None:
    broker = Broker(1, 4)
    end = Here(broker, 0)
    assert [end.put(parcel(i), 0.0) for i in range(3)] == ["accepted", "accepted", "full"]
    assert end.put(parcel(1), 0.0) == "duplicate"
    assert end.latest(-1, 0.0) is None
    taken = drained(broker)
    assert broker.take(0, 0.01) is None
    assert end.put(parcel(2), 0.0) == "accepted"
    broker.settle(0, trained=2, dropped=2)
    assert len(taken) == 2
    broker.saved()
    assert broker.rollback_lost() == 0
    drained(broker)
    assert broker.rollback_lost() == 2
    facts = broker.facts()[0]
    assert (facts["accepted"], facts["trained"], facts["dropped"], facts["rolled_back"]) == (6, 2, 2, 2)


def test_a_full_queue_lets_an_actor_in_as_soon_as_there_is_room() -> None:
    broker, became = Broker(1, 2), []
    broker.put(parcel(0), 0.0)
    waiting = threading.Thread(target=lambda: became.append(broker.put(parcel(1), 30.0)))
    waiting.start()
    while not broker.facts()[0]["actors_waiting_for_room"]:
        pass
    broker.take(0, 0.0)
    waiting.join(5)
    assert became == ["accepted"]


def test_weights_of_a_rolled_back_future_are_replaced_by_older_ones() -> None:
    broker = Broker(1, 2)
    end = Here(broker, 0)
    for version in (5, 3):
        broker.publish(0, Weights(version, [np.array([version])]))
        new = end.latest(5 if version == 3 else -1, 0.0)
        assert new is not None
        assert new.version == version
    assert end.latest(3, 0.0) is None


def test_sequence_numbers_are_told_apart_long_after_and_by_life() -> None:
    broker = Broker(1, 10**6)
    for seq in range(10_000):
        assert broker.put(parcel(seq, envs=1), 0.0) == "accepted"
    assert broker.put(parcel(9_000, envs=1), 0.0) == "duplicate"
    assert broker.put(parcel(10, envs=1), 0.0) == "duplicate"
    assert broker.put(parcel(10, life=1, envs=1), 0.0) == "accepted"
    assert broker.put(parcel(10, actor=1, envs=1), 0.0) == "accepted"


# ---- memory and authentication
@contextlib.contextmanager
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    theirs.settimeout(5)
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("size", [SMALL + 1, 1 << 20, frames.MOST_BYTES])
def test_a_header_takes_no_memory(size: int) -> None:
    """Neither before authentication, where it is refused at once, nor after it, where memory follows what has arrived."""
    with ends() as (ours, theirs):
        ours.sendall(frames.HEADER.pack(frames.MAGIC, 2, size - 2, 0) + b"{}")
        tracemalloc.start()
        try:
            with pytest.raises(frames.BadFrame, match=f"{size} bytes, where at most {SMALL}") as refused:
                frames.receive(theirs, SMALL)
            assert not refused.value.whole
            ours.sendall(frames.HEADER.pack(frames.MAGIC, 2, size - 2, 0)[2:] + b"{}")  # the first two bytes wait there already
            ours.shutdown(socket.SHUT_WR)
            theirs.recv(2)
            with pytest.raises((frames.Gone, frames.BadFrame)):
                frames.receive(theirs)
            assert tracemalloc.get_traced_memory()[1] < 1 << 19
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("size", [0, 1, frames.STEP - 1, frames.STEP, frames.STEP + 1, 5 * frames.STEP + 3])
def test_frames_of_every_length_arrive(size: int) -> None:
    x = np.arange(size, dtype=np.uint8)
    with ends() as (ours, theirs):
        sender = threading.Thread(target=frames.send, args=(ours, {"n": size}, [x]))
        sender.start()
        said, (y,) = frames.receive(theirs)
        sender.join()
    assert said == {"n": size}
    np.testing.assert_array_equal(x, y)


def test_an_actor_may_send_what_the_learner_declared_and_no_more() -> None:
    broker, (ours, theirs) = Broker(1, 1000), socket.socketpair()
    end = Linked(ours)
    served = threading.Thread(target=serve, args=(theirs, answers(broker, {}), lambda: None, lambda: broker.most(2)))
    served.start()
    with ours:
        big = Parcel(0, 0, 0, 0, 0, 2, [np.zeros(WORDS, np.uint8)], {})
        end.expect(WORDS // 2)
        assert end.put(big, 0.1) == "accepted"
        end.expect(8)
        with pytest.raises((frames.Gone, ConnectionError)):
            end.put(Parcel(0, 0, 0, 1, 0, 2, big.arrays, {}), 0.1)
    served.join(5)
    assert not served.is_alive()
    assert broker.facts()[0]["accepted"] == 2


WHO = {"name": "actor-0", "life": 3}


def greeted(client: Callable[[socket.socket], object], token: str = "ours") -> tuple[object, object]:
    """What a server that knows `token` makes of a client, and how the client ended."""
    with ends() as (ours, theirs):
        found: list[object] = []

        def run() -> None:
            try:
                found.append(client(ours))
            except (ConnectionError, ValueError) as error:
                found.append(error)

        running = threading.Thread(target=run)
        running.start()
        try:
            admitted: object = admit(theirs, token)
        except (ConnectionError, ValueError) as error:
            admitted = error
            theirs.close()
        running.join(5)
        return admitted, found[0]


def test_who_knows_the_token_is_admitted_and_others_are_not() -> None:
    assert greeted(lambda link: introduce(link, "ours", WHO)) == (WHO, None)
    refused, client = greeted(lambda link: introduce(link, "guess", WHO))
    assert isinstance(refused, Stranger)
    assert isinstance(client, frames.Gone)
    for answer in ({}, {"nonce": 3, "who": WHO}, {"nonce": "0" * 32, "who": "me"}, {"nonce": "0" * 32, "who": WHO, "digest": None}):
        assert isinstance(greeted(lambda link, a=answer: frames.send(link, a))[0], Stranger)
    assert isinstance(greeted(lambda link: frames.send(link, {"who": "x" * SMALL}))[0], frames.BadFrame)
    assert isinstance(greeted(lambda link: frames.send(link, {"who": WHO}, [np.zeros(3)]))[0], Stranger)


def test_a_server_that_does_not_know_the_token_is_refused_too() -> None:
    for answer in ({"digest": "0" * 64}, {}):
        with ends() as (ours, theirs):
            frames.send(theirs, {"nonce": "0" * 32})
            frames.send(theirs, answer)
            with pytest.raises(Stranger, match="does not know its token"):
                introduce(ours, "ours", WHO)


def test_the_token_never_travels_and_what_was_overheard_is_worth_nothing() -> None:
    token, heard = "secret-of-this-run", bytearray()

    def overheard(link: socket.socket) -> None:
        class Tapped:
            """The client's socket, with all that passes it written down."""

            def sendall(self, data: bytes) -> None:
                heard.extend(data)
                link.sendall(data)

            def recv_into(self, view: memoryview) -> int:
                got = link.recv_into(view)
                heard.extend(view[:got])
                return got

        introduce(Tapped(), token, WHO)  # type: ignore[arg-type]

    assert greeted(overheard, token)[0] == WHO
    assert token.encode() not in heard and b"actor-0" in heard
    at = heard.index(frames.MAGIC, 1)  # the client's answer, to another challenge
    repeated = lambda link: link.sendall(bytes(heard[at:]))
    assert isinstance(greeted(repeated, token)[0], Stranger)

    def mirror(link: socket.socket) -> None:
        frames.send(link, {**frames.receive(link)[0], "who": WHO, "digest": "?"})

    assert isinstance(greeted(mirror, token)[0], Stranger)
