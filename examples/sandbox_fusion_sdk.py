"""The `sandbox-fusion` SDK against this service: nothing but the endpoint changes.

pip install sandbox-fusion==0.3.7
python examples/sandbox_fusion_sdk.py http://127.0.0.1:8000
"""

import asyncio
import sys

from sandbox_fusion import (
    RunCodeRequest,
    RunJupyterRequest,
    run_code,
    run_code_async,
    run_concurrent,
    run_jupyter,
    set_endpoint,
)

set_endpoint(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")

one = run_code(RunCodeRequest(code="print(int(input()) * 7)", language="python", stdin="6"))
print(one.status.value, one.run_result.stdout.strip())

shell = asyncio.run(run_code_async(RunCodeRequest(code="echo $((6 * 7)) >&2; exit 3", language="bash")))
print(shell.status.value, shell.run_result.return_code, shell.run_result.stderr.strip())

requests = [[RunCodeRequest(code=f"print({n} ** 2)", language="python")] for n in range(20)]
print([int(each.run_result.stdout) for each in run_concurrent(run_code, args=requests)])

notebook = run_jupyter(RunJupyterRequest(cells=["x = 41", "x + 1"]))
print(notebook.status.value, notebook.cells[1].display[0]["text/plain"])
