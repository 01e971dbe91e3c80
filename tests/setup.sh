#!/bin/sh
# Programs that the tests drive for real. As root on Debian they are installed; elsewhere the
# tests that need a missing program say so and skip.
set -eu

PATH="$PATH:/usr/sbin:/sbin"
policy=/usr/sbin/policy-rc.d
packages=""

# Install package $2 unless program $1 is there.
need() { command -v "$1" >/dev/null 2>&1 || packages="$packages $2"; }

need chromium chromium
need firefox-esr firefox-esr
need WebKitWebDriver webkit2gtk-driver
need Xvfb xvfb
/usr/bin/python3 -c 'import gi; gi.require_version("WebKit2", "4.1")' 2>/dev/null ||
    packages="$packages python3-gi gir1.2-webkit2-4.1"
# Without a common sans-serif font a page is set wider than any reader would see it.
[ -d /usr/share/fonts/truetype/liberation ] || packages="$packages fonts-liberation"
need node "nodejs npm"
need slurmctld slurmctld
need slurmd slurmd
need sinfo slurm-client
need munged munge
need mpirun openmpi-bin
# Slurm opens PMIx by the name that only the development package has.
[ -n "$(ls /usr/lib/*/pmix2/lib/libpmix.so 2>/dev/null)" ] || packages="$packages libpmix-dev"
need zsh zsh
need fish fish

if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    # The tests start daemons of their own: the packages must not start the machine's.
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    apt-get update -qq
    # One by one: a package that this release lacks must not stop the others.
    for package in $packages; do
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "$package" >/dev/null || echo "setup: could not install $package" >&2
    done
fi
