"""The card: a source package whose parts agree with each other, and whose own tests pass in the platform's harness."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from connectors.salesforce.config import SalesforceConfig
from connectors.salesforce.provisioning import metadata
from connectors.salesforce.rights import PERMISSION_SET
from connectors.salesforce.twin import Twin
from hub.sdk import Field, FieldType
from tests.connectors.salesforce.twin.conftest import Rest
from tests.connectors.salesforce.twin.test_setup import make

CARD = Path(__file__).resolve().parents[3] / "connectors" / "salesforce" / "card"
SOURCE = CARD / "force-app" / "main" / "default"
COMPONENT = SOURCE / "lwc" / "hubScore"
SPACE = "{http://soap.sforce.com/2006/04/metadata}"
VERSION = SalesforceConfig.model_fields["api_version"].default
FIELDS = re.findall(r'^const \w+ = "(\w+__c)";$', (COMPONENT / "hubScore.js").read_text("utf-8"), re.MULTILINE)
PERMISSIONS = sorted((SOURCE / "permissionsets").glob("*.permissionset-meta.xml"))
OBJECTS = {"Lead", "Contact"}
KINDS = {
    "Score__c": FieldType.DECIMAL,
    "Score_Band__c": FieldType.TEXT,
    "Score_Reasons__c": FieldType.TEXT,
    "Scored_At__c": FieldType.INSTANT,
    "Score_Receipt__c": FieldType.TEXT,
}
REQUIRED = os.environ.get("HUB_TEST_REQUIRE_SERVICES") == "1"
UNREACHED = re.compile(r"\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ERR_SOCKET_TIMEOUT)\b")


def parsed(path: Path) -> ET.Element:
    return ET.fromstring(path.read_bytes())


def texts(root: ET.Element, path: str) -> list[str]:
    return [each.text or "" for each in root.findall("/".join(SPACE + part for part in path.split("/")))]


def test_the_package_speaks_the_api_version_of_the_connector() -> None:
    project = json.loads((CARD / "sfdx-project.json").read_text("utf-8"))
    assert project["sourceApiVersion"] == VERSION
    assert [(CARD / each["path"]).is_dir() for each in project["packageDirectories"]] == [True]
    assert texts(parsed(COMPONENT / "hubScore.js-meta.xml"), "apiVersion") == [VERSION]


def test_the_card_is_offered_for_record_pages_of_leads_and_contacts_alone() -> None:
    root = parsed(COMPONENT / "hubScore.js-meta.xml")
    assert root.tag == f"{SPACE}LightningComponentBundle"
    assert texts(root, "isExposed") == ["true"]
    assert texts(root, "targets/target") == ["lightning__RecordPage"]
    assert set(texts(root, "targetConfigs/targetConfig/objects/object")) == OBJECTS
    (named,) = re.findall(r"^const OBJECTS = (\[.*\]);$", (COMPONENT / "hubScore.js").read_text("utf-8"), re.MULTILINE)
    assert set(json.loads(named)) == OBJECTS


def test_what_an_administrator_sets_on_a_page_is_a_property_of_the_card_with_the_same_default() -> None:
    code = (COMPONENT / "hubScore.js").read_text("utf-8")
    wanted = {each.get("name"): each for each in parsed(COMPONENT / "hubScore.js-meta.xml").iter(f"{SPACE}property")}
    assert set(wanted) == {"staleAfterDays", "receiptHost"}
    assert [name for name in wanted if not re.search(rf"^  @api {name}\b", code, re.MULTILINE)] == []
    (default,) = re.findall(r"^const STALE_AFTER_DAYS = (\d+);$", code, re.MULTILINE)
    assert wanted["staleAfterDays"].get("default") == default


def test_the_permission_sets_read_the_fields_of_the_card_and_grant_nothing_else() -> None:
    assert set(FIELDS) == set(KINDS)
    assert {each.name for each in PERMISSIONS} == {
        f"Hub_Score_Reader_{each}.permissionset-meta.xml" for each in OBJECTS
    }
    for path in PERMISSIONS:
        root = parsed(path)
        entity = path.name.partition(".")[0].removeprefix("Hub_Score_Reader_")
        assert root.tag == f"{SPACE}PermissionSet"
        assert {each.tag.removeprefix(SPACE) for each in root} == {
            "description",
            "fieldPermissions",
            "hasActivationRequired",
            "label",
        }
        assert texts(root, "fieldPermissions/field") == [f"{entity}.{name}" for name in sorted(FIELDS)]
        assert set(texts(root, "fieldPermissions/readable")) == {"true"}
        assert set(texts(root, "fieldPermissions/editable")) == {"false"}
        assert len(texts(root, "label")[0]) <= 80
        assert path.name.partition(".")[0] != PERMISSION_SET


def test_every_word_of_the_card_is_a_custom_label_and_every_label_is_used() -> None:
    root = parsed(SOURCE / "labels" / "CustomLabels.labels-meta.xml")
    imports = re.findall(
        r'^import (\w+) from "@salesforce/label/c\.(\w+)";$', (COMPONENT / "labels.js").read_text("utf-8"), re.MULTILINE
    )
    assert [f"HubScore_{name[0].upper()}{name[1:]}" for name, _ in imports] == [label for _, label in imports]
    assert texts(root, "labels/fullName") == [label for _, label in imports]
    assert all(texts(root, "labels/value"))
    used = set()
    for each in ("hubScore.js", "hubScore.html"):
        used |= set(re.findall(r"\blabels\.(\w+)", (COMPONENT / each).read_text("utf-8")))
    assert used == {name for name, _ in imports}


def test_the_permission_sets_can_be_granted_once_the_hub_has_made_the_fields(tmp_path: Path) -> None:
    with Twin(tmp_path / "twin", records=1) as twin:
        rest = Rest(twin)
        owner = rest("POST", "sobjects/PermissionSet", json={"Name": "Reader", "Label": "Reader"}).json()["id"]
        granted = [name for path in PERMISSIONS for name in texts(parsed(path), "fieldPermissions/field")]
        assert len(granted) == 10
        for name in granted:
            entity, _, field = name.partition(".")
            grant = {"ParentId": owner, "SobjectType": entity, "Field": name, "PermissionsRead": True}
            assert rest("POST", "sobjects/FieldPermissions", json=grant).status_code == 400
            make(rest, name, **metadata(Field(field, KINDS[field])))
            assert rest("POST", "sobjects/FieldPermissions", json=grant).status_code == 201


def test_the_lock_names_a_digest_and_no_address_for_every_package() -> None:
    lock = json.loads((CARD / "package-lock.json").read_text("utf-8"))["packages"]
    package = json.loads((CARD / "package.json").read_text("utf-8"))
    assert lock.pop("")["devDependencies"] == package["devDependencies"]
    assert len(lock) > 100
    assert [name for name, each in lock.items() if "resolved" in each or "integrity" not in each] == []


def modules() -> Path:
    """What the lock names, installed once for each lock outside of the project; skips where nothing can be fetched."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hub-tests"
    digest = hashlib.sha256((CARD / "package-lock.json").read_bytes()).hexdigest()[:16]
    place = cache / f"card-{digest}"
    if (place / "node_modules").is_dir():
        return place / "node_modules"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as made:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(CARD / name, made)
        done = subprocess.run(["npm", "ci"], cwd=made, capture_output=True, text=True, timeout=280, check=False)
        if done.returncode and UNREACHED.search(done.stderr) and not REQUIRED:
            pytest.skip("npm reaches no registry")
        assert done.returncode == 0, done.stderr
        place.mkdir(exist_ok=True)
        try:
            (Path(made) / "node_modules").rename(place / "node_modules")
        except OSError:  # another process was sooner, with the same packages
            assert (place / "node_modules").is_dir()
    return place / "node_modules"


@pytest.mark.timeout(400)
def test_the_card_passes_its_own_tests_in_the_harness_of_the_platform(tmp_path: Path) -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        if REQUIRED:
            pytest.fail("node or npm is missing, and HUB_TEST_REQUIRE_SERVICES=1")
        pytest.skip("node or npm is not installed")
    place = tmp_path / "card"
    shutil.copytree(CARD, place, ignore=shutil.ignore_patterns("node_modules"))
    (place / "node_modules").symlink_to(modules())
    told = place / "told.json"
    done = subprocess.run(
        ["npm", "test", "--", "--json", f"--outputFile={told}"],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counted = json.loads(told.read_text("utf-8"))
    assert counted["numPassedTests"] == counted["numTotalTests"]
    assert counted["numPassedTests"] > 100
