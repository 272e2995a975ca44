"""A private PostgreSQL on this machine: what `flywheel-db up`, `down` and `psql` drive.

One directory, the *home*, holds everything:

    data/         the cluster; its `flywheel.conf` is written anew by `up`
    run/          the socket, reachable for the owner and root only
    server.log    what the server prints; moved to server.log.1 when it has grown
    server.json   the chosen port, socket directory and the caller's settings
    lock          held by whoever is starting or stopping the server

PostgreSQL refuses to run as root. When root calls, it runs as the owner of the home;
a new home belongs to the OS user `postgres`.

Who gets in: over the socket, the OS users root and the owner, as the superuser
`postgres` (peer authentication); any other role, and everyone over TCP, needs a
password (scram-sha-256), and no role has one until somebody sets it. The server
listens on the loopback address only.
"""

from flywheel_db.server.binaries import find_binaries
from flywheel_db.server.cluster import down, psql, status, up
from flywheel_db.server.home import Server, default_home

__all__ = ["Server", "default_home", "down", "find_binaries", "psql", "status", "up"]
