"""Backends answer rows. The protocol is in `base`; nothing outside this package imports nnsight."""
