#!/bin/sh
# Chromium and a Korean font for the browser tests. Installs what is missing when run as root on Debian or Ubuntu;
# otherwise says what to install. Exits 0 when there is a browser, 3 when the browser tests have to be left out.
# $1: the virtual environment
set -u
venv=$1

has_browser() {
    command -v chromium >/dev/null || command -v google-chrome >/dev/null || "$venv/bin/python" - 2>/dev/null <<'EOF'
import os, sys
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    sys.exit(not os.path.exists(playwright.chromium.executable_path))
EOF
}

has_korean_font() { command -v fc-list >/dev/null && [ -n "$(fc-list :lang=ko family)" ]; }

has_browser && has_korean_font && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    has_korean_font || apt-get install -y --no-install-recommends fontconfig fonts-noto-cjk
    if ! has_browser; then
        if grep -q '^ID=debian' /etc/os-release; then
            apt-get install -y --no-install-recommends chromium
        else
            # Ubuntu's chromium package is a snap, which does not run in a container
            "$venv/bin/playwright" install --with-deps chromium
        fi
    fi
elif ! has_korean_font; then
    echo "test: no Korean font was found; screenshots will show boxes. On Debian or Ubuntu: sudo apt-get install fonts-noto-cjk" >&2
fi

has_browser && exit 0
echo "test: no Chromium was found, so the browser tests are left out. On Debian: sudo apt-get install chromium." \
    "Elsewhere: $venv/bin/playwright install --with-deps chromium" >&2
exit 3
