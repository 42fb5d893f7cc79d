"""balloond: the memory overcommit daemon for KVM hosts."""

__version__ = "0.1.0"
