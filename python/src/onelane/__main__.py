"""``python -m onelane``: describe functions as tools, or serve them."""

from __future__ import annotations

import argparse
import sys
from typing import List, Optional

from onelane._load import LoadError
from onelane._serve import describe, serve


def main(arguments: Optional[List[str]] = None) -> int:
    """Parses the command line and does what it says."""
    parser = argparse.ArgumentParser(prog="python -m onelane", description="Python functions as tools of Onelane.")
    commands = parser.add_subparsers(dest="command", required=True)
    spec = "module:function or path/to/file.py:function; without a function, all that are marked with @onelane.tool"
    one = commands.add_parser("describe", help="print the section of a tools file")
    one.add_argument("spec", help=spec)
    two = commands.add_parser("serve", help="start a server that has these functions as tools")
    two.add_argument("spec", help=spec)
    two.add_argument("--listen", metavar="ADDR", help="address to listen on; port 0 takes a free one")
    two.add_argument("--data", metavar="DIR", help="where jobs and results are kept; ./onelane-data if not said")
    options = parser.parse_args(arguments)
    try:
        if options.command == "describe":
            print(describe(options.spec), end="")
            return 0
        serve(options.spec, options.listen, options.data)
    except (LoadError, ModuleNotFoundError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
