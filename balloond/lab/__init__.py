"""The lab: real guests on a real libvirt, in a small host of their own.

A test bench and a demonstration, never a part of the running daemon. It touches only guests, cgroups and files
that it made itself, and leaves none behind however it ends; see `leavings`.
"""
