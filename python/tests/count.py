"""A tool for the client's tests: `count.py FASTA SECONDS OUTPUT`."""

import json
import os
import sys
import time

path, seconds, output = sys.argv[1:4]
with open(path) as file:
    letters = "".join(line.strip() for line in file if not line.startswith(">"))
print(f"counting {len(letters)} letters", flush=True)
if "*" in letters:
    sys.exit(3)
begun = time.monotonic()
step = 0
while time.monotonic() - begun < float(seconds):
    step += 1
    print(f"step {step}", flush=True)
    with open(os.environ["ONELANE_PROGRESS"], "a") as progress:
        progress.write(f"{min((time.monotonic() - begun) / float(seconds), 1):.3f} step {step}\n")
    time.sleep(0.05)
with open(os.path.join(output, "letters.txt"), "w") as file:
    file.write(letters)
with open(os.path.join(output, "result.json"), "w") as file:
    json.dump({"letters": len(letters)}, file)
