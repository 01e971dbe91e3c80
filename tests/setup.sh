#!/bin/sh
# Programs that the tests drive for real. As root on Debian they are installed; elsewhere the
# tests that need a missing program say so and skip.
set -eu

packages=""
command -v chromium >/dev/null 2>&1 || packages="$packages chromium"
# Without a common sans-serif font a page is set wider than any reader would see it.
[ -d /usr/share/fonts/truetype/liberation ] || packages="$packages fonts-liberation"
command -v node >/dev/null 2>&1 || packages="$packages nodejs npm"

if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
fi
