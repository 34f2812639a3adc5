"""Caches: keys of a tenant, stores of bytes. Sees nothing of ctxpress but its errors."""
