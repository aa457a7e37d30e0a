"""What `make audit` runs: the licence of every installed package, and the advisories that are known against it.

Arguments go to pip-audit, such as `--vulnerability-service osv --osv-url URL` where another service is to be asked.
Exit status: 0 nothing known, 1 an advisory or a licence that needs a look, 2 the advisories could not be asked for.
"""

import json
import re
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from typing import Any

# The lesser GPL may be used as it is.
NEEDS_A_LOOK = re.compile(r"(?<!L)GPL|(?<!Lesser )General Public|UNKNOWN|Proprietary")
LONGEST = 60  # characters of a licence that are shown


def licence(package: Distribution) -> str:
    """The licence that a package's own metadata name: SPDX, else classifiers, else free text."""
    metadata = package.metadata
    if expression := metadata["License-Expression"]:
        return str(expression)
    named = [line.split(" :: ")[-1] for line in metadata.get_all("Classifier") or () if line.startswith("License ::")]
    text = (metadata["License"] or "UNKNOWN").strip().splitlines()
    return " / ".join(named) or text[0]


def print_licences() -> bool:
    """One line per package; whether none needs a look."""
    packages = sorted({package.metadata["Name"]: licence(package) for package in distributions()}.items(), key=str)
    for name, text in packages:
        print(f"{name:28} {text[:LONGEST]}{'   <- look' if NEEDS_A_LOOK.search(text) else ''}")
    return not any(NEEDS_A_LOOK.search(text) for _, text in packages)


def print_advisories(options: list[str]) -> int:
    """Ask PyPI through pip-audit, or whom its options name; the exit status of this."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--skip-editable", "--progress-spinner", "off"]
    answer = subprocess.run([*command, *options], capture_output=True, text=True)
    try:
        found: list[dict[str, Any]] = json.loads(answer.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = answer.stderr.strip().splitlines()[-1:] or ["no answer"]
        print(f"\nAdvisories were NOT checked: pip-audit failed ({reason[0]}).")
        return 2
    found = [package for package in found if package["name"] != "trivd"]  # which is installed from here
    asked = [package for package in found if "skip_reason" not in package]
    bad = [(package, advisory) for package in asked for advisory in package["vulns"]]
    for package, advisory in bad:
        fixed = ", ".join(advisory["fix_versions"]) or "no version"
        print(f"\n{package['name']} {package['version']}: {advisory['id']}, mended in {fixed}")
    if len(asked) < len(found):
        skipped = [package for package in found if "skip_reason" in package]
        print(f"\nAdvisories were NOT checked for {len(skipped)} of {len(found)} packages; the first:")
        print(f"{skipped[0]['name']}: {skipped[0]['skip_reason'][:200]}")
    print(f"\n{len(bad)} advisories against {len(asked)} packages that were checked.")
    return 1 if bad else 0 if len(asked) == len(found) else 2


if __name__ == "__main__":
    acceptable = print_licences()
    status = print_advisories(sys.argv[1:])
    sys.exit(status if acceptable else 1)
