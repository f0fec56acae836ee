"""The library's version; also part of the cache key of every TFX component."""

__version__ = "0.1.0"
