"""The decision core: arithmetic on values, with one door, `decide`."""
