"""The starting point's FastAPI server, as it was written: `examples/fastapi/app_before.py`, whose background task runs the
analysis in the server's own event loop. Only the analysis is another: nothing, or what the query says."""

import importlib.util
import json
import os
import sys
import types

import common
import job

SERVER = os.path.join(common.HERE, "../../examples/fastapi/app_before.py")


def run(name, sequence, folder):
    if name == "command":
        job.run(name, json.loads(sequence))


if __name__ == "__main__":
    sys.modules["query"] = types.SimpleNamespace(run=run)
    spec = importlib.util.spec_from_file_location("app_before", SERVER)
    server = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(server)
    common.serve(server.app)
