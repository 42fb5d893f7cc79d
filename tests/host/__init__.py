"""Checks of a systemd host with balloond as a service, made from the inside; `vagrant/check.sh` runs them.

For test hosts only: the daemon is killed, libvirt stopped, machine.slice limited. All of it
is put back at the end.
"""
