"""jsforce, which other people wrote for another platform, works on the twin too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from connectors.salesforce.twin import Twin

HERE = Path(__file__).parent / "jsforce"
MODULES = Path(os.environ.get("HUB_TEST_NODE_MODULES", HERE / "node_modules"))
"""Where jsforce is installed; the tests fetch nothing themselves."""

needs_jsforce = pytest.mark.skipif(
    shutil.which("node") is None or not (MODULES / "jsforce").is_dir(),
    reason=f"node is not installed, or jsforce is not in {MODULES.name} (HUB_TEST_NODE_MODULES)",
)


@needs_jsforce
def test_jsforce_logs_in_reads_writes_and_asks_in_bulk(twin: Twin) -> None:
    node = shutil.which("node")
    assert node is not None
    user = twin.control.credentials()["users"]["integration"]
    surroundings = {
        "PATH": os.environ["PATH"],
        "NODE_PATH": str(MODULES),
        "NODE_EXTRA_CA_CERTS": str(twin.authority),
        "TWIN": json.dumps({"url": twin.url, **user}),
    }
    script = HERE / "story.js"
    done = subprocess.run(
        [node, str(script)], env=surroundings, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    counted = told.pop("count")
    assert told.pop("chosen") >= 1
    assert told == {
        "user": twin.site.org.users["integration"],
        "identity": twin.site.org.users["integration"],
        "fields": len(twin.site.org.schema.objects["lead"].fields),
        "objects": 14,
        "read": counted,
        "owner": "Sam Sales",
        "created": True,
        "city": "Oslo",
        "several": ["done", "REQUIRED_FIELD_MISSING"],
        "upserted": True,
        "removed": True,
        "refused": "INVALID_FIELD",
        "bulk": [1, 1, 0],
        "streamed": ["Bulk"],
        "limit": 15_000,
    }
    assert twin.control.find("Lead", "Key__c", ["js-1"])[0]["LastName"] == "U"
