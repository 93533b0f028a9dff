"""What both drivers say to httpx."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Union
from urllib.parse import urlsplit

import httpx

from onelane.client._core import Core
from onelane.client._effects import Lost, Request


def http_options(core: Core) -> Dict[str, Any]:
    """Options for httpx's clients."""
    host = urlsplit(core.url).hostname or ""
    # A proxy from the environment must not come between this machine and itself.
    is_local = host in ("localhost", "::1") or host.startswith("127.")
    return {"base_url": core.url, "headers": core.headers, "trust_env": not is_local}


def build(http: Union[httpx.Client, httpx.AsyncClient], request: Request, body: Mapping[str, Any]) -> httpx.Request:
    """The request with its open body."""
    read_s = request.read_timeout_s
    return http.build_request(
        request.method,
        request.path,
        params=list(request.query),
        headers=dict(request.headers),
        timeout=httpx.Timeout(min(30.0, read_s), read=read_s, pool=None),
        **body,
    )


def lost(error: httpx.TransportError) -> Lost:
    """No answer, and whether anybody listens at all. A request that can't be sent is no loss: that goes through."""
    if isinstance(error, httpx.LocalProtocolError):
        raise error
    refused = isinstance(error, (httpx.ConnectError, httpx.UnsupportedProtocol))
    return Lost(str(error) or type(error).__name__, refused)
