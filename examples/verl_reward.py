"""verl's reward client for SandboxFusion against this service: in verl itself, set `reward.sandbox_fusion.url`.

    pip download --no-deps verl==0.9.1
    python examples/verl_reward.py http://127.0.0.1:8000 verl-0.9.1-py3-none-any.whl

Loads the client's two files from the wheel: the rest of verl, and torch, are not needed (`requests` is).
"""

import importlib.util
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

FOLDER = "verl/utils/reward_score/sandbox_fusion"

if len(sys.argv) != 3:
    sys.exit(__doc__)
url, wheel = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(FOLDER)])
    place = Path(folder, FOLDER)
    spec = importlib.util.spec_from_file_location(
        "reward", place / "__init__.py", submodule_search_locations=[str(place)]
    )
    reward = importlib.util.module_from_spec(spec)
    sys.modules["reward"] = reward
    spec.loader.exec_module(reward)

tests = {"inputs": ["1 2\n", "20 22\n"], "outputs": ["3\n", "42\n"]}
for program in ("print(sum(map(int, input().split())))", "print(3)", "print(1 / 0)", "while True: pass"):
    score, cases = reward.compute_score(
        f"{url}/run_code", threading.Semaphore(8), 1024, f"```python\n{program}\n```", tests, continuous=True, timeout=3
    )
    print(score, [case["status"] for case in cases])
