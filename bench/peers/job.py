"""The job itself. Alone in its file: RQ imports it anew in each job's process."""

import subprocess


def run(query, command):
    subprocess.run(command, check=True)
