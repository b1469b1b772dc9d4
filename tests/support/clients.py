"""A client whose service is a function."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from pmae.client import PmaeClient


def client_over(handler: Callable[[httpx.Request], httpx.Response]) -> PmaeClient:
    """A client all of whose requests ``handler`` answers."""
    return PmaeClient("http://service", transport=httpx.MockTransport(handler))
