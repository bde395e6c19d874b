"""The doors of a host, and what is told through them: `[http]` and `[telemetry]`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from replank.config_kinds import MIB, ByteCount, Count, Port, Seconds, Section


class HttpConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Module calls and control over HTTP: `[http]`."""

    enabled: bool = True
    """Whether to listen on TCP at all; the Unix socket is always there."""
    host: Annotated[str, msgspec.Meta(min_length=1)] = "127.0.0.1"
    """Address to listen on; beyond loopback every request needs the token."""
    port: Port = 8321
    """TCP port; 0 takes any free one."""
    allowed_hosts: tuple[str, ...] = ()
    """More names that a request's Host header may carry, without port."""
    max_body_bytes: ByteCount = MIB
    """Bytes of one request's body; a longer one is answered 413."""
    max_connections: Count = 1_000
    """Connections that may be open at once; requests on one more are answered 503."""
    keep_alive_s: Annotated[int, msgspec.Meta(ge=1)] = 75
    """Whole seconds that an idle connection stays open."""
    head_timeout_s: Seconds = 10.0
    """Seconds within which a request's head must have arrived; then 408."""
    body_timeout_s: Seconds = 30.0
    """Seconds within which a request's body must have arrived; then 408."""
    reader_timeout_s: Seconds = 30.0
    """Seconds that a client may take nothing of its answer; then it is let go."""
    certfile: str | None = None
    """PEM file with the certificate and its chain: with it the server speaks TLS only."""
    keyfile: str | None = None
    """PEM file with the certificate's private key, when it is not in `certfile`."""
    stop_timeout_s: Annotated[int, msgspec.Meta(ge=1)] = 5
    """Whole seconds that open connections get to end when the host stops."""
    max_stream_events: Count = 10_000
    """Events of one reload kept for a slow reader; the oldest are left out beyond that."""
    heartbeat_s: Seconds = 15.0
    """Seconds of silence after which a reader of events is told that the host is there."""
    max_event_readers: Count = 32
    """Readers that may follow the events at once; one more is answered 429."""
    dashboard: bool = False
    """Whether to serve the page at `/dashboard`; `replank run --dashboard` turns it on."""


class TelemetryConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is told about the host: `[telemetry]`."""

    traces: bool = False
    """Whether reloads are OpenTelemetry spans; needs `pip install 'replank[otel]'`."""
    log: Literal["text", "json"] = "text"
    """How `replank run` writes its log: lines for people, or one JSON object a line."""
    events_kept: Count = 1_000
    """Events kept in memory for readers that come late or read slowly."""


__all__ = ["HttpConfig", "TelemetryConfig"]
