"""The other side of the service, for the command line and for programs; without torch."""

from nas.service.client.service_client import ServiceClient

__all__ = ["ServiceClient"]
