"""A client of a running host: blocking, standard library only, quick to start."""

from __future__ import annotations

import http.client
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from replank.config import WhenBusy
from replank.control import wire
from replank.control.connection import UnixConnection, feed_items, is_stream, raise_for_status
from replank.control.locate import Contact, HostNotFound, read_contact
from replank.control.probation_client import AsksProbation
from replank.control.schedule_client import AsksSchedule, What, modules_of
from replank.control.wire import CallFailed
from replank.coordinator.choices import AS_CONFIGURED, Choices
from replank.errors import UsageError
from replank.instrumentation.status import HostStatus
from replank.report import Plan, ReloadReport
from replank.report_state import ReadmissionReport
from replank.scheduling.entries import Priority
from replank.state.exchange import ImportReport, StateReport
from replank.state.format import Snapshot, SnapshotReader
from replank.state.quarantine import Quarantined

T = TypeVar("T")
OnLine = Callable[[Any], None]

TIMEOUT_S: Final = 30.0
RELOAD_TIMEOUT_S: Final = 600.0
"""Longer than all deadlines of a reload together: its end is the host's to decide."""


class Client(AsksProbation, AsksSchedule):
    """Ask a host, over its Unix socket.

    Args:
        contact: How to reach it, from `read_contact`.
        timeout_s: Seconds without any answer after which a request is given up.
    """

    def __init__(self, contact: Contact, *, timeout_s: float = TIMEOUT_S) -> None:
        self.contact = contact
        self._timeout_s = timeout_s
        self._connection = UnixConnection(contact.socket, timeout_s)
        self._greeted = False

    @classmethod
    def find(cls, data_dir: str | os.PathLike[str], *, timeout_s: float = TIMEOUT_S) -> Self:
        """Return a client of the host that runs on a data directory.

        Args:
            data_dir: The data directory.
            timeout_s: Seconds without any answer after which a request is given up.

        Raises:
            HostNotFound: None runs there.
        """
        return cls(read_contact(data_dir), timeout_s=timeout_s)

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()
        self._greeted = False

    def version(self) -> wire.Hello:
        """Return who answers, and in which protocol."""
        return self._get("/control/version", wire.Hello)

    def status(self) -> HostStatus:
        """Return what is true now."""
        return self._get("/control/status", HostStatus)

    def history(self, limit: int = 20, module: str | None = None) -> tuple[ReloadReport, ...]:
        """Return the reports of the last reloads, newest first.

        Args:
            limit: How many at most.
            module: Only reloads in which this module took part.
        """
        query = urlencode({"limit": limit, **({"module": module} if module else {})})
        return self._get(f"/control/history?{query}", tuple[ReloadReport, ...])

    def events(
        self,
        *,
        follow: bool = True,
        last: int | None = None,
        types: Iterable[str] = (),
        last_event_id: str | None = None,
    ) -> Iterator[tuple[str | None, wire.FeedItem]]:
        """Yield what happens in the host, each with its id, until the feed or the host ends.

        Args:
            follow: Whether to wait for more when all that is kept has been read.
            last: Begin with so many of those that are kept; all of them when not following.
            types: Only events of these classes.
            last_event_id: Go on after this one instead.
        """
        query = {"follow": int(follow), **({} if last is None else {"last": last})}
        path = f"/control/events?{urlencode({**query, 'types': ','.join(types)})}"
        more = {"Last-Event-ID": last_event_id} if last_event_id else None
        with self._request("GET", path, None, headers=more) as response:
            yield from feed_items(response)

    def plan(
        self,
        what: What,
        *,
        allow_breaking: Iterable[str] = (),
        choices: Choices = AS_CONFIGURED,
        expect_changes: Iterable[str] = (),
        rehearse: bool = False,
    ) -> Plan:
        """Return what a reload would do.

        Args:
            what: As for `reload`.
            allow_breaking: As for `reload`.
            expect_changes: As for `reload`.
            choices: As for `reload`.
            rehearse: Whether a forked copy of the host tries it on the real state.
        """
        body = wire.PlanRequest(
            modules=modules_of(what),
            allow_breaking=list(allow_breaking),
            expect_changes=list(expect_changes),
            rehearse=rehearse,
            choices=choices,
        )
        return self._post("/control/plan", body, Plan)

    def reload(
        self,
        what: What,
        *,
        reason: str = "cli",
        on_line: OnLine | None = None,
        allow_breaking: Iterable[str] = (),
        choices: Choices = AS_CONFIGURED,
        expect_changes: Iterable[str] = (),
        expect: Mapping[str, str] | None = None,
        priority: Priority = "normal",
        quiet_wait_s: float | None = None,
        retries: int | None = None,
        when_busy: WhenBusy | None = None,
    ) -> ReloadReport:
        """Reload modules, all or none, and return the report.

        Args:
            what: A name, names, or names with sources other than the configured ones.
            reason: Who or what asks.
            on_line: Called with each event as it happens.
            allow_breaking: Calls that may change although other modules use them.
            choices: What comes before the host's configuration this once.
            expect_changes: Queries whose replayed answers may change.
            expect: By module, the digest that its source must have.
            priority: "low", "normal", "high" or "critical".
            quiet_wait_s: Seconds to wait for quiet traffic at most.
            retries: How often to try again when busy calls or the disk stopped it.
            when_busy: "newest", "queue" or "refuse"; as the host is configured by default.

        Raises:
            ReplankError: The reload was not taken up. A reload that fails returns a report.
        """
        body = wire.ReloadRequest(
            modules=modules_of(what),
            reason=reason,
            stream=True,
            allow_breaking=list(allow_breaking),
            choices=choices,
            expect_changes=list(expect_changes),
            expect=dict(expect or {}),
            priority=priority,
            quiet_wait_s=quiet_wait_s,
            retries=retries,
            when_busy=when_busy,
        )
        return self._follow("/control/reload", body, on_line)

    def rollback(self, module: str, *, on_line: OnLine | None = None) -> ReloadReport:
        """Go back to the version before, keeping the writes since, and return the report.

        Args:
            module: Its name.
            on_line: Called with each event as it happens.

        Raises:
            ReplankError: There is nothing to go back to.
        """
        body = wire.RollbackRequest(module=module, stream=True)
        return self._follow("/control/rollback", body, on_line)

    def call(self, module: str, method: str, arguments: Any = None) -> Any:
        """Call a module and return the answer as plain JSON values.

        Args:
            module: Its name.
            method: Name of the call.
            arguments: An object of keyword arguments or an array of positional ones.

        Raises:
            CallFailed: The module raised an exception of its own.
            ReplankError: The call was refused.
        """
        path = f"/modules/{quote(module, safe='')}/{quote(method, safe='')}"
        with self._request("POST", path, arguments or {}, module) as response:
            if is_stream(response):
                return [msgspec.json.decode(line) for line in response]
            return msgspec.json.decode(response.read())

    def send(self, module: str, method: str, arguments: Any = None) -> None:
        """Queue a message; returns when it is accepted.

        Args:
            module: Its name.
            method: Name of the call that handles it.
            arguments: An object of keyword arguments or an array of positional ones.

        Raises:
            ReplankError: The message was refused.
        """
        path = f"/modules/{quote(module, safe='')}/messages/{quote(method, safe='')}"
        with self._request("POST", path, arguments or {}, module) as response:
            response.read()

    def describe_state(self, module: str) -> StateReport:
        """Return which fields a module's state has.

        Args:
            module: Its name.
        """
        return self._get(f"/control/state?{urlencode({'module': module})}", StateReport)

    def quarantined(self, module: str) -> tuple[Quarantined, ...]:
        """Return the records of a module that did not migrate and are kept."""
        query = urlencode({"module": module})
        return self._get(f"/control/state/quarantined?{query}", tuple[Quarantined, ...])

    def take_back(self, module: str, keys: Iterable[str], *, discard: bool) -> ReadmissionReport:
        """Migrate these kept records again, all when none is named; or forget them."""
        body = wire.TakeBackRequest(module=module, keys=list(keys), discard=discard)
        return self._post("/control/state/take-back", body, ReadmissionReport)

    def export_state(self, module: str) -> bytes:
        """Return a module's state as a JSON document; calls wait while it is copied.

        Args:
            module: Its name.
        """
        body = wire.StateRequest(module=module)
        with self._request(
            "POST", "/control/state/export", body, timeout_s=RELOAD_TIMEOUT_S
        ) as response:
            return response.read()

    def sample_state(self, module: str) -> Snapshot:
        """Return a copy of a module's state in which each record is whole; no call waits.

        Args:
            module: Its name.
        """
        body = wire.StateRequest(module=module)
        with self._request(
            "POST", "/control/state/sample", body, timeout_s=RELOAD_TIMEOUT_S
        ) as response:
            # To the end: an answer half read must never be taken for the next one.
            return SnapshotReader(BytesIO(response.read()), "the live state").snapshot()

    def import_state(self, module: str, path: str | os.PathLike[str]) -> ImportReport:
        """Replace a module's state by an export, all of it or nothing.

        Args:
            module: Its name.
            path: The file, as the host finds it.

        Raises:
            ReplankError: It was refused; the state is as it was.
        """
        full = os.path.abspath(path)  # noqa: PTH100 - keeps links
        body = wire.ImportRequest(module=module, path=full)
        with self._request(
            "POST", "/control/state/import", body, timeout_s=RELOAD_TIMEOUT_S
        ) as response:
            return msgspec.json.decode(response.read(), type=ImportReport)

    def stop(self) -> None:
        """Ask the host to drain and stop; returns when it has begun.

        Raises:
            UsageError: The host is stopped by the program that started it.
        """
        self._post("/control/stop", {}, dict[str, bool])

    # -- one request --------------------------------------------------------------------------

    def _get(self, path: str, kind: type[T]) -> T:
        with self._request("GET", path, None) as response:
            return msgspec.json.decode(response.read(), type=kind)

    def _post(self, path: str, body: Any, kind: type[T]) -> T:
        with self._request("POST", path, body) as response:
            return msgspec.json.decode(response.read(), type=kind)

    def _follow(self, path: str, body: Any, on_line: OnLine | None) -> ReloadReport:
        with self._request("POST", path, body, timeout_s=RELOAD_TIMEOUT_S) as response:
            for text in response:
                line = msgspec.json.decode(text, type=wire.Line)
                if isinstance(line, wire.Report):
                    response.read()
                    return line.report
                if isinstance(line, wire.Failure):
                    response.read()
                    raise wire.error_of(line.facts)
                if on_line is not None:
                    on_line(line)
        raise HostNotFound(
            "the host ended in the middle of the reload",
            do="start it again: it reports what it undid; see `replank history`",
        )

    @contextmanager
    def _request(
        self,
        method: str,
        path: str,
        body: Any,
        module: str | None = None,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        self._greet(path)
        headers = {"Host": "localhost", **(headers or {})}
        data = None
        if body is not None:
            data = msgspec.json.encode(body)
            headers["Content-Type"] = "application/json"
        try:
            self._connection.wait_s(timeout_s or self._timeout_s)
            self._connection.request(method, path, data, headers)
            response = self._connection.getresponse()
            raise_for_status(response, module)
            yield response
        except TimeoutError:
            self.close()
            raise HostNotFound(
                f"the host (pid {self.contact.pid}) does not answer",
                do="look at what it does: replank status, or its log",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise HostNotFound(
                f"the host (pid {self.contact.pid}) cannot be reached",
                found=str(error) or type(error).__name__,
                do="start it again with `replank run`",
            ) from error
        except BaseException:
            self.close()  # an answer half read must never be taken for the next one
            raise

    def _greet(self, path: str) -> None:
        """Refuse to talk to a host that speaks otherwise, before the first request."""
        if self._greeted or path == "/control/version":
            return
        self._greeted = True
        hello = self.version()
        if hello.protocol != wire.PROTOCOL:
            raise UsageError(
                "this host speaks another control protocol",
                found=f"protocol {hello.protocol} (Replank {hello.version})",
                expected=f"protocol {wire.PROTOCOL}",
                do="use the `replank` command of the host's own installation",
            )


__all__ = ["RELOAD_TIMEOUT_S", "TIMEOUT_S", "CallFailed", "Client"]
