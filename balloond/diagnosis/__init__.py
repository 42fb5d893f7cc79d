"""Is this host, and is each of its guests, set up as it should be?

Judgement alone, over values that an edge has read: `traits` are what was found, a `Finding` is what to think of it
and what mends it. Nothing here reads a file, asks libvirt or changes anything.
"""
