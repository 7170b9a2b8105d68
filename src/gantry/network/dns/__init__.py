"""The embedded DNS server of user-defined networks.

One process for all containers of a daemon (`server`, started as `python -m gantry.network.dns`): it holds a socket
in each container's network namespace, answers for the containers of its networks (`zone`), forwards what it does
not know (`forward`) and lives on while the daemon restarts. The daemon's side is `gantry.network.names`.

Everything here but that side is imported by the small process: the standard library only, and little of it.
"""
