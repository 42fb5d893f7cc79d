"""Would anybody notice if a safeguard were gone? Each is taken away in turn, and some world must then go wrong.

`whole` is what that world comes to with all safeguards in place; `without` what it comes to with one removed. The
worlds are small and steady enough that the difference is the safeguard's.
"""
