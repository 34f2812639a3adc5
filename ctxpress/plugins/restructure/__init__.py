"""Documents restructured into verbatim quotes, in sections of facts that belong together."""
