"""Training of the bundled token classifier; not part of the installed package."""
