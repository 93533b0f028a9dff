"""The user's own FastAPI server, before and after: the same client sees the same answers from both."""

import importlib.util
import os
import sys
import time

from fastapi.testclient import TestClient

os.environ["ONELANE_URL"] = sys.argv[1]
sys.path.insert(0, sys.argv[2])


def load(name):
    spec = importlib.util.spec_from_file_location(name, os.path.join(sys.argv[2], f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app


for name in ["app_before", "app_after"]:
    with TestClient(load(name)) as client:
        answer = client.post("/", data={"query_name": "foo", "query_sequence": "42"})
        assert answer.status_code == 200, answer.text
        data = answer.json()
        assert set(data) == {"Query created", "Query ID", "Backlog Length"}, data
        deadline = time.monotonic() + 60
        while client.get("/backlog").json() != ["Currently 0 jobs in the backlog."]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
print("ok")
