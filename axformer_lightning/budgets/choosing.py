"""From a table to the widths of all blocks: programs over mixtures of damages, each measured as a whole, then swaps.

Damages that were measured one at a time do not add up, so no sum decides: the program proposes, and what is measured on
the whole model is accepted or rejected.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from axformer_lightning.budgets.damage import Damage
from axformer_lightning.budgets.probe import Probe
from axformer_lightning.budgets.program import least_damage
from axformer_lightning.budgets.tables import Objective, Option, Table
from axformer_lightning.budgets.widths import layers_of
from axformer_lightning.repair import BlockName, Layers, RemovalOrder

Choice = dict[BlockName, int]  # which option of each block
Predict = Callable[[Option], float]
MIXTURES = (0.0, 0.03, 0.1, 0.3, 1.0)  # of the share of a block's output that is lost, in addition to the damage
FINALISTS = 3  # proposals that are measured on all samples


@dataclass(frozen=True)
class Tried:
    """One choice that was measured as a whole.

    Args:
        choice: which option of each block.
        layers: what it leaves.
        damage: measured on the search set.
    """

    choice: Choice
    layers: Layers
    damage: Damage


@dataclass(frozen=True)
class Chooser:
    """Chooses widths within a budget.

    Args:
        probe: measures.
        table: the options.
        orders: in which the units of each block go.
        budget: most that all blocks may cost.
        objective: what is to be as low as possible.
        few: batches by which proposals are compared first.
    """

    probe: Probe
    table: Table
    orders: Mapping[BlockName, RemovalOrder]
    budget: float
    objective: Objective
    few: int | None = None

    def choose(self, tries: int) -> Tried:
        """Return the best of some programs, after that many swaps.

        Args:
            tries: swaps to measure.
        """
        proposals = list({tuple(choice.items()): choice for choice in self.programs()}.values())
        if self.few is not None:
            proposals = sorted(proposals, key=self._first_look)[:FINALISTS]
        best = min(map(self.measure, proposals), key=lambda tried: self.objective(tried.damage))
        return self.swapped(best, tries)

    def _first_look(self, choice: Choice) -> float:
        return self.objective(self.probe.measure(self.layers_of(choice), most=self.few))

    def programs(self) -> Iterator[Choice]:
        """Yield what programs over mixtures of damages choose, and equal shares of all blocks.

        None removes a whole block, unless the budget needs it; see :meth:`swapped`.
        """
        for mixture in MIXTURES:
            for floor in (True, False):
                yield self._program(partial(self._predicted, mixture=mixture, floor=floor))
        yield self._program(lambda option: option.error)
        yield from self._equal_shares()

    def _equal_shares(self) -> Iterator[Choice]:
        shares = {name: _shares(options) for name, options in self.table.items()}
        for share in max(shares.values(), key=len):
            choice = {name: min(range(len(own)), key=lambda at: abs(own[at] - share)) for name, own in shares.items()}
            if self.cost(choice) <= self.budget:
                yield choice
                return

    def _program(self, predict: Predict) -> Choice:
        options = {name: [o for o in options if o.width is not None] for name, options in self.table.items()}
        if sum(min(o.cost for o in own) for own in options.values()) > self.budget:
            options = {name: list(own) for name, own in self.table.items()}
        costs = [[option.cost for option in own] for own in options.values()]
        damages = [[predict(option) for option in own] for own in options.values()]
        return dict(zip(options, least_damage(costs, damages, self.budget), strict=True))

    def _predicted(self, option: Option, mixture: float, floor: bool) -> float:
        return (max(0.0, option.damage) if floor else option.damage) + mixture * option.error

    def measure(self, choice: Choice, best: Tried | None = None) -> Tried:
        """Measure a choice as a whole; one that is clearly worse than the best is stopped early."""
        layers = self.layers_of(choice)
        enough = self.probe.samples // 3

        def ends(damage: Damage) -> bool:
            if best is None or damage.samples < enough:
                return False
            return self.objective(damage) - 2 * damage.error > self.objective(best.damage)

        return Tried(choice, layers, self.probe.measure(layers, ends, like=best.layers if best else None))

    def layers_of(self, choice: Choice) -> Layers:
        """Return what a choice leaves of each layer."""
        widths = {name: self.table[name][at].width for name, at in choice.items()}
        return layers_of(self.probe.replay.anatomy, self.probe.replay.before, self.orders, widths)

    def cost(self, choice: Choice) -> float:
        """Return the cost of all blocks."""
        return sum(self.table[name][at].cost for name, at in choice.items())

    def swapped(self, best: Tried, tries: int) -> Tried:
        """Make one block narrower and another wider, or remove one, as long as that helps.

        Args:
            best: where to start.
            tries: how many swaps are measured, the most promising first.
        """
        seen = {tuple(best.choice.items())}
        while tries > 0:
            swaps = [choice for choice in self._swaps(best.choice) if tuple(choice.items()) not in seen]
            if not swaps:
                break
            choice = min(swaps, key=lambda choice: self._sum(choice))
            seen.add(tuple(choice.items()))
            tries -= 1
            tried = self.measure(choice, best)
            whole = tried.damage.samples >= best.damage.samples
            if whole and self.objective(tried.damage) < self.objective(best.damage):
                best = tried
        return best

    def _sum(self, choice: Choice) -> float:
        return sum(self._predicted(self.table[name][at], 0.1, True) for name, at in choice.items())

    def _swaps(self, choice: Choice) -> Iterator[Choice]:
        """Yield the choices within the budget in which one block is narrower, and another as much wider as fits."""
        for narrow, at in choice.items():
            last = len(self.table[narrow]) - 1
            for lower in {min(at + 1, last), min(at + 2, last), last} - {at}:
                narrower = {**choice, narrow: lower}
                for wide in choice:
                    if wide != narrow and choice[wide] > 0:
                        fits = (u for u in range(choice[wide]) if self.cost({**narrower, wide: u}) <= self.budget)
                        wider = next(fits, None)
                        if wider is not None:
                            yield {**narrower, wide: wider}


def _shares(options: Sequence[Option]) -> list[float]:
    """Return what share of its units each width of a block leaves, from whole on, without its removal."""
    units = options[0].width or 1
    return [option.width / units for option in options if option.width is not None]
