"""Discovery: services register over HTTP under a lease; DNS answers from what is registered."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name):
        """`__version__`, found out when it is asked for, for it takes long, and ^C before the command line's first line
        prints a traceback."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("discovery-dns")
        except PackageNotFoundError:  # a plain clone, run without being installed
            return "0+unknown"
