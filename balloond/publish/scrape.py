"""How do scrapes reach the metrics?

HTTP on the configured address, read-only: whatever is asked, nothing changes. The library's own
`start_http_server` lets any client hold a thread for ever, and opens as many threads as there are clients;
here a client has a deadline, and there are few. Clients that fail are no event for the log.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from http.server import ThreadingHTTPServer
from typing import Any, Final

from prometheus_client import CollectorRegistry, MetricsHandler

from balloond.config.settings import Listen

MOST_SCRAPES: Final = 8  # at once; two Prometheus servers and some people need four
SCRAPE_TIMEOUT_S: Final = 10.0  # Prometheus's own default


class MetricsServer:
    """Serves one registry from threads of its own, wherever it is told to."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._server: _Server | None = None
        self.listens_at: Listen | None = None

    @property
    def port(self) -> int | None:
        """The port it really has, also where any was asked for; None: it serves nowhere."""
        return self._server.server_port if self._server is not None else None

    def listen(self, where: Listen | None) -> None:
        """Serves there, and nowhere else; None: not at all. Raises OSError when the address can't be had."""
        if where == self.listens_at:
            return
        self.close()
        if where is not None:
            self._server = _Server.at(where, self._registry)
            self.listens_at = where
            threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = self.listens_at = None


class _Server(ThreadingHTTPServer):
    """A thread for each of a few clients; more are turned away, so that none of them can use the host up."""

    def __init__(self, address: tuple[str, int], family: int, handler: type[MetricsHandler]) -> None:
        self.address_family = family
        self._room = threading.BoundedSemaphore(MOST_SCRAPES)
        self._since_s: dict[socket.socket, float] = {}  # the clients being served
        super().__init__(address, handler)

    @classmethod
    def at(cls, where: Listen, registry: CollectorRegistry) -> _Server:
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        handler = type("Handler", (MetricsHandler,), {"registry": registry, "timeout": SCRAPE_TIMEOUT_S})
        return cls((str(address[0]), int(address[1])), family, handler)

    def server_bind(self) -> None:
        """Binds without http.server's look-up of this host's name, which may wait for a DNS server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._since_s[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the host has no thread to spare now
            self._done_with(request)
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._done_with(request)

    def service_actions(self) -> None:
        """Hangs up on who is still not done; the handler's own timeout begins anew with each byte."""
        late_s = time.monotonic() - SCRAPE_TIMEOUT_S
        for request, since_s in tuple(self._since_s.items()):
            if since_s < late_s:
                with contextlib.suppress(OSError):  # it was done just now
                    request.shutdown(socket.SHUT_RDWR)

    def _done_with(self, request: socket.socket) -> None:
        del self._since_s[request]
        self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up or waits too long is no event for the log."""
