"""The process beside a coordinator (`search.asking`): `python -m search.ask_process FILE_DESCRIPTOR`."""

import sys
from multiprocessing.connection import Connection

from .asking import serve

if __name__ == "__main__":
    with Connection(int(sys.argv[1])) as link:
        serve(link, link.recv())
