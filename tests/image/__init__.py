"""`make test-host`: a real systemd host in a disk image, in which the checks of `tests/host` are run.

The image is built once and kept; each run boots a copy of it, has it install this tree by the very scripts of
`vagrant/provision`, and reads the report. The machine that this runs on gets no service, guest, cgroup or setting
changed: all that it sees is one QEMU process, which is gone at the end.
"""
