"""When candidates are type-checked: last in Prepare, for it takes seconds where the rest does not.

Each is read beside the modules that it uses as they will be: the candidates of the same
transaction, and what serves of all others.
"""

from __future__ import annotations

from replank.code.store import Version
from replank.code.type_check import TypeCheck
from replank.coordinator.prepare import Workshop
from replank.coordinator.slot import Routes
from replank.coordinator.transaction import Participant, Transaction


async def check_types(tx: Transaction, routes: Routes, workshop: Workshop) -> None:
    """Refuse candidates in which their module's type checker finds an error.

    Args:
        tx: The transaction; its candidates are loaded.
        routes: What serves of all other modules.
        workshop: Settings, and the folder for the checkers' caches.

    Raises:
        CheckError: It finds one, is not installed, or does not come to its end.
    """
    for one in tx.each():
        checker = one.slot.config.checker(workshop.config)
        if checker is None or one.digest is not None:  # a committed version was judged before
            continue
        check = TypeCheck(checker, workshop.config.type_check_timeout_s, workshop.cache)
        await check.run(one.name, one.new.version, _used(one, tx, routes))
        one.type_checker = checker


def _used(one: Participant, tx: Transaction, routes: Routes) -> dict[str, Version]:
    found: dict[str, Version] = {}
    for use in one.new.definition.uses:
        other = tx.participants.get(use.module)
        generation = other.new if other is not None else routes.find(use.module)
        if generation is not None and use.module != one.name:
            found[use.module] = generation.version
    return found


__all__ = ["check_types"]
