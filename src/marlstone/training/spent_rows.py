"""Spend by agent, phase, kind and step in the run's store, where dashboards and alerts read it."""

from dataclasses import dataclass, field

from marlstone.core.ledger import Costs
from marlstone.runs.store import Store
from marlstone.training.callbacks import Callback, Counting, Moment


@dataclass
class SpentRows(Callback):
    """What did the run spend since the last checkpoint? Told at every checkpoint, and once more at the end: what a step's rows say is
    replaced while the run stands at that step, so their sum is what was spent, also after a resume. `told`: by seed, up to `step`."""

    counting: Counting
    step: int = -1
    before: dict[int, Costs] = field(default_factory=dict)
    told: dict[int, Costs] = field(default_factory=dict)

    def saving(self, now: Moment) -> None:
        """Tell what was spent so far."""
        self.tell(now.store, now.step, now.backend.seeds)

    def scheduled(self, now: Moment) -> bool:
        """Tell again: what is asked at a checkpoint of the schedule has been played since."""
        self.tell(now.store, now.step, now.backend.seeds)
        return False

    def tell(self, store: Store, step: int, seeds: tuple[int, ...]) -> None:
        """Write what came since the steps before this one."""
        if step != self.step:
            self.before = self.told if self.step >= 0 else store.spent(below=step)
            self.step = step
        self.told = dict(zip(seeds, self.counting.costs, strict=True))
        for seed, costs in self.told.items():
            store.spend(step, seed, costs.less(self.before.get(seed, Costs())))
