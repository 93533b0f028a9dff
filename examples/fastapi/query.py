"""The analysis itself: `query.py NAME SEQUENCE FOLDER` works for a while and leaves `answer.txt` in FOLDER."""

import os
import sys
import time


def run(name, sequence, folder):
    time.sleep(1)  # stands for the heavy work
    with open(os.path.join(folder, "answer.txt"), "w") as answer:
        answer.write(f"{name}\t{len(sequence)} letters\n")


if __name__ == "__main__":
    run(*sys.argv[1:4])
