"""Judges a report of pip-audit, which calls a package that it could not look up no failure.

Reads the report, as JSON, from standard input. Exit codes: 0 no known vulnerability, 1 some, and
each is named; 3 nothing was looked up. What was not looked up is named in any case.
"""

from __future__ import annotations

import json
import sys

EXIT_VULNERABLE, EXIT_NOT_AUDITED = 1, 3


def main() -> int:
    """Print the judgement; returns the exit code."""
    try:
        packages = json.load(sys.stdin)["dependencies"]
    except ValueError:  # it ended without a report
        packages = []
    skipped = sorted(package["name"] for package in packages if "skip_reason" in package)
    vulnerable = [package for package in packages if package.get("vulns")]
    for package in vulnerable:
        for found in package["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version"
            print(f"{package['name']} {package['version']}: {found['id']}, fixed by {fixed}")
    looked_up = len(packages) - len(skipped)
    print(f"{looked_up} packages audited, {len(vulnerable)} of them vulnerable")
    if skipped and looked_up:
        print(f"WARNING: NOT AUDITED: {', '.join(skipped)}")
    if not looked_up:
        return EXIT_NOT_AUDITED
    return EXIT_VULNERABLE if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())
