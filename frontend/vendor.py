"""Copy what /docs and /redoc are shown with from an installed `node_modules` into the package: `make assets`.

Each file is copied as it was published, but for what its row below replaces, and recorded with its digest in
manifest.json; a test holds the files to it. Neither installing nor running the server needs npm.
"""

import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "src" / "taxii_server" / "site" / "assets" / "vendor"

Replacements = dict[str, str]

# Maps for debuggers aren't shipped, so nothing may ask for them.
NO_MAP = ""
SWAGGER_CSS: Replacements = {"\n/*# sourceMappingURL=swagger-ui.css.map*/": NO_MAP}
REDOC_JS: Replacements = {
    "\n//# sourceMappingURL=redoc.standalone.js.map": NO_MAP,
    # The logo beside "API docs by Redocly" would be fetched from another host. This image fails at once, and Redoc leaves
    # out one that fails; the line itself stays.
    '"https://cdn.redoc.ly/redoc/logo-mini.svg"': '"data:,"',
}

# package → file in it → name of the copy, what is replaced in it
FILES: dict[str, dict[str, tuple[str, Replacements]]] = {
    "redoc": {
        "LICENSE": ("redoc.LICENSE.txt", {}),
        "bundles/redoc.standalone.js": ("redoc.standalone.js", REDOC_JS),
        "bundles/redoc.standalone.js.LICENSE.txt": ("redoc.standalone.js.LICENSE.txt", {}),
    },
    "swagger-ui-dist": {
        "LICENSE": ("swagger-ui.LICENSE.txt", {}),
        "NOTICE": ("swagger-ui.NOTICE.txt", {}),
        "swagger-ui-bundle.js": ("swagger-ui-bundle.js", {}),
        "swagger-ui-bundle.js.LICENSE.txt": ("swagger-ui-bundle.js.LICENSE.txt", {}),
        "swagger-ui.css": ("swagger-ui.css", SWAGGER_CSS),
    },
}


def main(modules: Path) -> None:
    """Copy every file and write the manifest."""
    TARGET.mkdir(parents=True, exist_ok=True)
    for old in TARGET.iterdir():
        old.unlink()
    manifest = {}
    for package, files in FILES.items():
        version = json.loads((modules / package / "package.json").read_text("utf-8"))["version"]
        digests = {}
        for source, (name, replacements) in files.items():
            text = replaced((modules / package / source).read_bytes().decode("utf-8"), replacements, source)
            content = text.encode("utf-8")
            (TARGET / name).write_bytes(content)
            digests[name] = hashlib.sha256(content).hexdigest()
        manifest[package] = {"version": version, "sha256": digests}
    (TARGET / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    print("\n".join(f"{package} {one['version']}" for package, one in manifest.items()))


def replaced(text: str, replacements: Replacements, source: str) -> str:
    """Replace each passage, which must be there once: a new version may need new rows."""
    for old, new in replacements.items():
        if text.count(old) != 1:
            sys.exit(f"{source}: expected once, found {text.count(old)} times: {old.strip()}")
        text = text.replace(old, new)
    if "sourceMappingURL=" in text.rsplit("\n", 1)[-1]:
        sys.exit(f"{source}: names a source map, which isn't shipped.")
    return text


if __name__ == "__main__":
    main(Path(sys.argv[1]))
