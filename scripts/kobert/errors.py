"""What can stop an import."""


class ImportRefused(Exception):
    """A file is not what it should be; the message says which, why, and what to do."""
