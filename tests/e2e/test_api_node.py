"""The official OpenAI package for Node: the tests are in node/api.test.mjs and are run here against the same network."""

import os
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent


def test_official_node_package(tiny, priced):
    environment = {**os.environ, "COCOON_BASE_URL": tiny.base_url, "COCOON_MODEL": tiny.model}
    environment |= {"COCOON_SLOW_URL": priced.base_url, "COCOON_SLOW_MODEL": priced.model}
    run = subprocess.run(
        ["node", "--test", "--test-reporter=tap", "api.test.mjs"],
        cwd=HERE / "node",
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    passed = int(re.search(r"^# pass (\d+)$", run.stdout, re.MULTILINE)[1])
    declared = len(re.findall(r"^test\(", (HERE / "node" / "api.test.mjs").read_text(), re.MULTILINE))
    assert passed == declared > 0
