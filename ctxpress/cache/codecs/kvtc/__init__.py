"""``kvtc``: transform coding by a calibration of the model. ``measure.py`` makes one."""

from ctxpress.cache.codecs.kvtc.codec import KvtcCodec, create

__all__ = ["KvtcCodec", "create"]
