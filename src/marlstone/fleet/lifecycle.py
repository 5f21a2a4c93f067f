"""The life of one process of a fleet, actor or learner: what it is told, what it runs, how it says why it ended.

Started by `rollout.boot`; it ends when its supervisor does. SIGUSR1 has it write every thread's Python stack to a file.
"""

import faulthandler
import gc
import os
import signal
import socket
import traceback
from pathlib import Path
from typing import Any

from marlstone.core.errors import Failure, is_refusal
from marlstone.core.user_code import member
from marlstone.fleet.status_page import Page
from marlstone.fleet.transport import Linked
from marlstone.rollout.env_stepper import BROKEN
from marlstone.rollout.worker_process import STACKS, prepare_process

PATIENCE = 600.0  # seconds to wait for the other half of a fleet to say what it is

ACTOR, LEARNER = f"{__name__}:actor", f"{__name__}:learner"


def _begun(link: int, page: int, stacks: int, ends: tuple[int, ...] = ()) -> tuple[Linked, Page, dict[str, Any]]:
    prepare_process(link, page, stacks, *ends)
    faulthandler.register(signal.SIGUSR1, stacks, all_threads=True, chain=False)
    end = Linked(socket.socket(fileno=link))
    return end, Page(page), end.ask({"ask": "setup"}, patience=PATIENCE)[0]


def _report_failure(end: Linked, error: BaseException) -> None:
    """Say why this process ends."""
    mistake = isinstance(error, ValueError | ModuleNotFoundError) and is_refusal(error)
    kind = "mistake" if mistake else "failure" if isinstance(error, Failure) else "error"
    text = str(error) if kind != "error" else f"{type(error).__name__}: {error}"
    end.ask({"ask": "failed", "kind": kind, "text": text, "trace": "".join(traceback.format_exception(error))})


def part_class(name: str) -> type:
    """The user's class that `file.py:Class` names."""
    file, _, cls = name.rpartition(":")
    found: type = member(file, cls, f"part {name!r}", "class", lambda x: isinstance(x, type))
    return found


def actor(link: int, page_fd: int, stacks: int) -> None:
    """The whole life of an actor."""
    from marlstone.fleet.actor import Actor, HostActor, Post, ReferenceActor

    end, page, setup = _begun(link, page_fd, stacks)
    post = Post(**setup["post"])
    end.seed = post.index
    try:
        unrolls: HostActor | ReferenceActor
        if setup["config"] is None:
            parts = tuple(part_class(name) for name in setup.get("parts", ()))
            unrolls = HostActor(setup["stepping"], post, page, tuple(setup["retry"]), frozenset(setup["skipped"]), parts)
            gc.freeze()  # environments make garbage at every step: collect seldom
            gc.set_threshold(20_000, 20, 100)
        else:
            from marlstone.config import parse
            from marlstone.rollout.placement import prepare

            prepare(1)
            unrolls = ReferenceActor(parse(setup["config"]), post, page)
        end.hello(unrolls.hello(), PATIENCE)
        Actor(post, unrolls, end, page).run()
    except ConnectionError:
        return  # the supervisor has gone, or wants us gone
    except BROKEN as error:
        _report_failure(end, error)
        raise SystemExit(1) from None


def learner(link: int, page_fd: int, stacks: int, *ends: int) -> None:
    """The whole life of a learner."""
    end, page, setup = _begun(link, page_fd, stacks, ends)
    try:
        from marlstone.rollout.placement import prepare

        prepare()
        from marlstone.config import parse
        from marlstone.core.spec_json import spec_from_json
        from marlstone.fleet.inspection import STACKS as STACKS_FILE
        from marlstone.fleet.learner import Learning
        from marlstone.runs.checkpoint import verify
        from marlstone.runs.directory import RunDirectory
        from marlstone.runs.lifetime import Lifetime
        from marlstone.runs.progress import Progress
        from marlstone.training.loop import train

        config, run = parse(setup["config"]), RunDirectory.open(setup["run"])
        os.environ[STACKS] = str(run.within(STACKS_FILE).absolute())

        def spec() -> Any:
            page.doing("waiting for trajectories")
            message = end.ask({"ask": "spec"}, patience=PATIENCE)[0]
            page.doing("compiling")
            return spec_from_json(message["spec"]), tuple(message["masked"])

        def told(p: Progress) -> None:
            if p.phase in ("compiling", "checkpointing", "evaluating"):
                page.doing(p.phase)
            end.ask({"ask": "progress", "progress": vars(p)})

        made: list[Learning] = []

        def runtime() -> Learning:
            each = tuple(Linked(socket.socket(fileno=fd), i) for i, fd in enumerate(ends))
            tell = lambda what: end.ask({"ask": what})[0]
            lineage = run.within("fleet/lineage.jsonl").open("a") if config.fleet.lineage else None
            made.append(Learning.of(config, each, page, spec, lambda: tell("trained"), lambda: tell("beside"), lineage))
            return made[0]

        record = train(
            config, run,
            resume=setup["resume"] and verify(Path(setup["resume"])), initial=setup["initial"] and verify(Path(setup["initial"])),
            runtime=runtime, progress=told, lifetime=Lifetime(run.within("fleet/learner-seconds")),
            stop=lambda: end.ask({"ask": "stop?"})[0]["stop"],
        )  # fmt: skip
        from marlstone.runs.json_line import plain

        ages, service = ([list(x) for x in made[0].staleness], made[0].service()) if made else ([], {})
        end.ask({"ask": "record", "record": plain(record), "staleness": ages, "service": service})
        os._exit(0)  # an update that was given up may still run on a thread of its own
    except ConnectionError:
        return
    except BROKEN as error:
        _report_failure(end, error)
        raise SystemExit(1) from None
