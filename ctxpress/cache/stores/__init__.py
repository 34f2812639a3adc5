"""The stores that ``cache.store.create_store`` builds, one a module, loaded when asked for."""
