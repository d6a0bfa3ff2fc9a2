"""Servers on the loopback interface that speak like each vendor, and one that fails in every way a server can."""
