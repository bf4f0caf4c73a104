#!/bin/sh
# Installs the independent judges of the tests where apt is present and the user may.
# Elsewhere it says so, and the tests that need them name what is missing and are skipped.
# Arguments are further packages.
set -eu

packages="orthanc orthanc-dicomweb orthanc-gdcm dcmtk dicom3tools pixelmed-apps strace postgresql $*"
missing=""
for package in $packages; do
    if ! dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
        missing="$missing $package"
    fi
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "judges: no apt-get here; not installed:$missing"
    exit 0
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    echo "judges: no right to install:$missing"
    exit 0
fi
echo "judges: installing$missing"
$as_root apt-get update -qq
# Orthanc's package would start a service of its own on the ports the tests leave alone.
$as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
