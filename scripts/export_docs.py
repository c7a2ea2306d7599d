"""Write the API documentation as files that open from disk, with no server and no internet.

    python scripts/export_docs.py [--out docs/api]

`index.html` is Swagger UI, `redoc.html` is Redoc, `openapi.json` the description both show. Browsers refuse to fetch a
JSON file from a page on disk, so the pages read the same description from `openapi.js`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from api import create_api
from core.access import Access
from core.core import Core
from core.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "api" / "static" / "docs"
HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="icon" href="data:,">
"""
# nothing can be tried from disk: there is no server to send it to
SWAGGER = Template(
    HEAD
    + """<link rel="stylesheet" href="assets/swagger-ui.css">
<div id="docs"></div>
<script src="openapi.js"></script>
<script src="assets/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({ spec: window.openapi, dom_id: "#docs", deepLinking: true, supportedSubmitMethods: [] });
</script>
"""
)
REDOC = Template(
    HEAD
    + """<style>body { margin: 0 }</style>
<div id="docs"></div>
<script src="openapi.js"></script>
<script src="assets/redoc.standalone.js"></script>
<script>
Redoc.init(window.openapi, { hideDownloadButton: true }, document.getElementById("docs"));
</script>
"""
)


def description() -> dict[str, Any]:
    """The OpenAPI description of every route. Starts no process and reads no setting of this machine."""
    settings = Settings.model_construct()
    schema = create_api(Core(settings), Access(settings)).openapi()
    return dict(schema)


def export(schema: dict[str, Any], folder: Path) -> list[Path]:
    """Write the pages and all they need into `folder`, replacing what an earlier export left. Returns the files."""
    assets = folder / "assets"
    shutil.rmtree(assets, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ASSETS, assets)
    raw = json.dumps(schema, ensure_ascii=False, indent=1)
    title = f"{schema['info']['title']} {schema['info']['version']}"
    written = {
        "openapi.json": raw,
        "openapi.js": f"window.openapi = {raw};\n",
        "index.html": SWAGGER.substitute(title=title),
        "redoc.html": REDOC.substitute(title=title),
    }
    for name, text in written.items():
        (folder / name).write_text(text, "utf-8")
    return [folder / name for name in written]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the API documentation as files that open from disk.")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "api", help="folder to write into")
    options = parser.parse_args(arguments)
    for path in export(description(), options.out):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
