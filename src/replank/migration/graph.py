"""The way from one schema number to another over the steps that exist.

Steps go up only, so the graph has no cycles. The best path has the fewest lossy steps, then the
fewest steps; two equally good ones are an error, because they may lead to different states.
"""

from __future__ import annotations

from collections.abc import Iterable

from replank.errors import SchemaError
from replank.migration.steps import Step


class StepGraph:
    """The steps of one module, as edges between schema numbers.

    Args:
        steps: The steps, in any order.
        module: Whose they are, for errors.

    Raises:
        SchemaError: Two steps lead from and to the same numbers.
    """

    def __init__(self, steps: Iterable[Step], *, module: str | None = None) -> None:
        self.module = module
        self.edges: dict[tuple[int, int], Step] = {}
        for step in steps:
            if not isinstance(step, Step):
                raise SchemaError(
                    "the list of migrations holds something that is no step",
                    module=module,
                    found=repr(step),
                    expected="what step(...) returns",
                )
            edge = (step.start, step.end)
            if edge in self.edges:
                raise SchemaError(
                    f"two steps lead from schema {step.start} to {step.end}",
                    module=module,
                    found=f"{self.edges[edge]!r} and {step!r}",
                    expected="one step between two numbers",
                    do="put their operations into one step",
                )
            self.edges[edge] = step

    def between(self, start: int, end: int) -> tuple[Step, ...]:
        """Return the steps that lie within two numbers."""
        return tuple(s for s in self.edges.values() if start <= s.start and s.end <= end)

    def path(self, start: int, end: int) -> tuple[Step, ...]:
        """Find the best way up.

        Args:
            start: The lower schema number.
            end: The higher one.

        Raises:
            SchemaError: There is none, or two are equally good.
        """
        best: dict[int, tuple[tuple[int, int], list[tuple[Step, ...]]]] = {start: ((0, 0), [()])}
        # Every step goes up, so visiting the numbers in order visits each once.
        for node in sorted({step.start for step in self.edges.values()}):
            if node not in best or node >= end:
                continue
            (lossy, length), ways = best[node]
            for step in (s for s in self.edges.values() if s.start == node and s.end <= end):
                cost = (lossy + step.lossy, length + 1)
                known = best.get(step.end)
                longer = [(*way, step) for way in ways[:2]]
                if known is None or cost < known[0]:
                    best[step.end] = (cost, longer)
                elif cost == known[0]:
                    known[1].extend(longer)
        if end not in best:
            raise self._gap(start, end, max(best))
        ways = best[end][1]
        if len(ways) > 1:
            raise self._ambiguous(start, end, ways)
        return ways[0]

    def _gap(self, start: int, end: int, reached: int) -> SchemaError:
        known = ", ".join(f"{a} -> {b}" for a, b in sorted(self.edges)) or "none"
        return SchemaError(
            f"no steps lead from schema {start} to {end}",
            module=self.module,
            found=f"steps {known}",
            expected=f"a step that leads on from {reached}",
            do=f"write step({reached}, {end}, ...)",
        )

    def _ambiguous(self, start: int, end: int, ways: list[tuple[Step, ...]]) -> SchemaError:
        shown = [" -> ".join(str(n) for n in (start, *(s.end for s in way))) for way in ways[:2]]
        return SchemaError(
            f"two equally good ways lead from schema {start} to {end}",
            module=self.module,
            found=" and ".join(shown),
            expected="one best way: fewest lossy steps, then fewest steps",
            do="remove the steps of one of them",
        )


__all__ = ["StepGraph"]
