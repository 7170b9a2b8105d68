"""The resolver's program: `python -I -S __main__.py DESCRIPTOR`, on an inherited listening socket.

Without `site` the package is not on the path, and nothing but it is wanted from where it lies.
"""

import sys
from os.path import abspath, dirname

sys.path.append(dirname(dirname(dirname(dirname(abspath(__file__))))))

from gantry.network.dns.server import main

main(int(sys.argv[1]))
