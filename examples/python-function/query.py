"""The analysis itself, as a function: its annotations are the form, its result is the answer."""

import time

import onelane


@onelane.tool(results={"answer": {"file": "answer.txt", "view": "text"}})
def query(query_name: str, query_sequence: str, job: onelane.Job) -> None:
    """My query."""
    for step in range(10):
        job.progress(step / 10, "thinking")
        time.sleep(0.1)  # stands for the heavy work
    answer = f"{query_name}\t{len(query_sequence)} letters\n"
    (job.output_dir / "answer.txt").write_text(answer)
