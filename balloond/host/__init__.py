"""The edge to a real host: its guests over libvirt, its kernel's files, and both together as one world."""
