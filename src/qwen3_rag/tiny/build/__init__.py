"""Builds the bundled tiny models from pinned sources; not part of the installed package."""
