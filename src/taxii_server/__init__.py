"""A TAXII 2.1 server for trust groups of banks and law enforcement."""

__version__ = "0.1.0"
