"""The starting point's client: posts two queries and polls the backlog until it is empty."""

import os
import sys
import time

import httpx

base = sys.argv[1]
EMPTY = '["Currently 0 jobs in the backlog."]'
BODY = "query_name=foo&query_sequence=42"

with httpx.Client(base_url=base, timeout=30) as client:
    # No Content-Type at all, then a form's, then a wrong one: all are read as a form.
    kinds = [None, "application/x-www-form-urlencoded", "text/plain"]
    ids = []
    for kind in kinds[:2]:
        headers = {"content-type": kind} if kind else {}
        answer = client.post("/", content=BODY, headers=headers)
        assert answer.status_code == 200, answer.text
        assert not answer.text.endswith("\n")
        data = answer.json()
        assert list(data) == ["Query created", "Query ID", "Backlog Length"], data
        created = data["Query created"]
        assert list(created) == ["query_name", "query_sequence", "experiment_id", "status", "experiment_dir"], created
        assert created["query_name"] == "foo" and created["query_sequence"] == "42"
        assert created["status"] == "pending"
        assert created["experiment_id"] == data["Query ID"]
        assert os.path.isdir(created["experiment_dir"]), created
        ids.append(data["Query ID"])
    assert data["Backlog Length"] == 2, data
    third = client.post("/", content=BODY, headers={"content-type": kinds[2]})
    assert third.status_code == 200, third.text
    ids.append(third.json()["Query ID"])

    deadline = time.monotonic() + 60
    for path in ["/backlog", "/backlog/"]:
        while True:
            answer = client.get(path)
            assert answer.status_code == 200, answer.text
            if answer.text.endswith(EMPTY):
                assert answer.text == EMPTY
                break
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.05)

    jobs = [client.get(f"/api/v1/jobs/{job}").json() for job in ids]
    assert all(job["state"] == "succeeded" for job in jobs), jobs
    spans = sorted((job["started_at"], job["finished_at"]) for job in jobs)
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:])), spans
print("ok")
