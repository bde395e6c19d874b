"""The journal against a model in memory, over any order of writes, restarts and crashes."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from replank.journal.journal import Committed, Journal, Participant
from replank.report import ErrorReport, ModuleReport, Outcome, ReloadReport

MODULES = st.sets(st.sampled_from(["api", "ledger", "mail"]), min_size=1)
VERSIONS = st.integers(1, 4)


class JournalMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="replank-journal-"))
        self.runner = asyncio.Runner()
        self.path = self.folder / "0" / "journal.sqlite"
        self.path.parent.mkdir()
        self.journal = Journal(self.path).open()
        self.serving = {}
        self.commits = {}
        self.open = {}
        self.ended = []
        self.ids = set()
        self.generations = set()
        self.crashes = 0

    def teardown(self):
        self.journal.close_blocking()
        self.runner.close()
        shutil.rmtree(self.folder)

    @rule(modules=MODULES, version=VERSIONS)
    def begin(self, modules, version):
        tx = self.journal.next_id()
        assert tx not in self.ids
        self.ids.add(tx)
        chosen = {}
        for module in sorted(modules):
            generation = self.journal.next_generation(module)
            assert (module, generation) not in self.generations
            self.generations.add((module, generation))
            chosen[module] = (f"sha256:{version}", generation)
        participants = [Participant(m, "", d, g) for m, (d, g) in chosen.items()]
        self.runner.run(self.journal.begin(tx, participants, "test"))
        self.open[tx] = ("prepared", chosen)

    def some(self, state):
        return next((tx for tx, (found, _) in self.open.items() if found == state), None)

    @precondition(lambda self: self.some("prepared"))
    @rule()
    def commit(self):
        tx = self.some("prepared")
        _, chosen = self.open[tx]
        rows = [Committed(m, d, "1", g, 1, {}, f"{m}.py") for m, (d, g) in chosen.items()]
        self.runner.run(self.journal.commit(tx, rows))
        self.open[tx] = ("committed", chosen)
        for module, entry in chosen.items():
            self.serving[module] = entry
            self.commits.setdefault(module, []).append(entry[0])

    @rule(state=st.sampled_from(["prepared", "committed"]))
    def finish(self, state):
        tx = self.some(state)
        if tx is None:
            return
        _, chosen = self.open.pop(tx)
        error = ErrorReport(phase="drain", module=None, kind="PhaseTimeout", message="late")
        report = ReloadReport(
            id=tx,
            outcome=Outcome.COMMITTED if state == "committed" else Outcome.ROLLED_BACK,
            modules=tuple(ModuleReport(name=module) for module in chosen),
            error=None if state == "committed" else error,
        )
        self.runner.run(self.journal.finish(tx, report))
        self.ended.append((tx, report.outcome))

    @rule(clean=st.booleans())
    def restart(self, clean):
        """Go on with the files as they are: after a close, or as a killed process leaves them."""
        self.crashes += 1
        folder = self.folder / str(self.crashes)
        if clean:
            self.journal.close_blocking()
        shutil.copytree(self.path.parent, folder)
        self.journal.close_blocking()
        self.path = folder / "journal.sqlite"
        self.journal = Journal(self.path).open()
        assert len(self.journal.recover()) == len(self.open)
        for tx, (state, _) in self.open.items():
            committed = state == "committed"
            self.ended.append((tx, Outcome.COMMITTED if committed else Outcome.ROLLED_BACK))
        self.open.clear()
        self.ended.sort(key=lambda entry: int(entry[0][1:]))

    @invariant()
    def what_serves_is_what_was_committed_last(self):
        found = self.journal.committed()
        assert {m: (c.digest, c.generation) for m, c in found.items()} == self.serving

    @invariant()
    def the_previous_version_is_the_last_other_one(self):
        for module, digests in self.commits.items():
            others = [digest for digest in digests if digest != digests[-1]]
            previous = self.journal.previous(module)
            assert (previous and previous.digest) == (others[-1] if others else None)

    @invariant()
    def history_tells_every_reload_that_ended(self):
        found = {report.id: report.outcome for report in self.journal.history(1000)}
        assert found == dict(self.ended)


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=12, stateful_step_count=14, deadline=None)
