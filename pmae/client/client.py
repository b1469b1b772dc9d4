"""The client: one method for each thing that the REST API does, in a part for each resource."""

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
    """Speaks to one service. Safe to share between threads; close it, or use it in a ``with``.

    Args:
        base_url: address of the API, without ``/api/v1``.
        api_key: ``pmae_...``, where the service asks for keys; never shown in a message.
        timeout: seconds to wait for a connection and for each piece of an answer.
        transport: replaces the network, for tests.
    """


def connect(api_url: str) -> PmaeClient:
    """Connect with the key in ``PMAE_API_KEY``, or in the file that ``PMAE_API_KEY_FILE`` names.

    As an option, every process list would show it.

    Raises:
        SettingsError: both are given, or the file cannot be read.
    """
    return PmaeClient(api_url, api_key=read_secret(API_KEY))
