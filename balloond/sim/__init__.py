"""Simulated hosts and guests under the very same loop and `decide`."""
