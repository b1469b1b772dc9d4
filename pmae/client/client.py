"""The client: one method per operation of the REST API, one base class per resource."""

from __future__ import annotations

from pmae.client.access import AccessMethods
from pmae.client.catalogue import ServiceMethods
from pmae.client.details import DetailMethods
from pmae.client.events import EventMethods
from pmae.client.runs import RunMethods
from pmae.client.whole import FolderMethods
from pmae.runtime.secret_files import API_KEY, read_secret


class PmaeClient(
    RunMethods, DetailMethods, EventMethods, FolderMethods, ServiceMethods, AccessMethods
):
    """Client of one service; thread-safe. Close it, or use it in a ``with`` statement.

    Args:
        base_url: address of the API, without ``/api/v1``.
        api_key: ``pmae_...``, if the service requires keys; never shown in a message.
        timeout: seconds to wait for a connection, and for each part of an answer.
        transport: httpx transport to use instead of the network, for tests.
    """


def connect(api_url: str) -> PmaeClient:
    """Return a client with the key in ``PMAE_API_KEY``, or in the file ``PMAE_API_KEY_FILE``.

    The key is no command-line option, since process lists would show it.

    Raises:
        SettingsError: both variables are set, or the file cannot be read.
    """
    return PmaeClient(api_url, api_key=read_secret(API_KEY))
