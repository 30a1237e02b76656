"""Discovery: services register over HTTP under a lease; DNS answers from what is registered."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("discovery-dns")
except PackageNotFoundError:  # a plain clone, run without being installed
    __version__ = "0+unknown"
