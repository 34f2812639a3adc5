"""Codecs, one family a module; their names are in ``ctxpress.cache.codec``."""
