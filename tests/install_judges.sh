#!/bin/sh
# Installs the independent judges of the tests where apt is present and the user may.
# Elsewhere it says so, and the tests that need them name what is missing and are skipped.
# Arguments are further packages.
set -eu

if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    as_root="no"
fi

packages="orthanc orthanc-dicomweb orthanc-gdcm dcmtk dicom3tools pixelmed-apps"
packages="$packages poppler-utils openssl iproute2 strace postgresql $*"
missing=""
for package in $packages; do
    if ! dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
        missing="$missing $package"
    fi
done
if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "judges: no apt-get here; not installed:$missing"
    elif [ "$as_root" = "no" ]; then
        echo "judges: no right to install:$missing"
    else
        echo "judges: installing$missing"
        $as_root apt-get update -qq
        # Orthanc's package would start a service of its own on the ports the tests leave alone.
        $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get install -y -qq --no-install-recommends $missing >/dev/null
    fi
fi

# An S3 service, in an environment of its own: it needs other versions of libraries than the node does.
if [ ! -x /opt/moto/bin/moto_server ]; then
    if [ "$as_root" = "no" ]; then
        echo "judges: no right to install: moto_server"
    else
        echo "judges: installing moto_server"
        $as_root python3 -m venv /opt/moto
        $as_root /opt/moto/bin/python -m pip install --quiet 'moto[s3]>=5.1' flask flask-cors
        $as_root ln -sf /opt/moto/bin/moto_server /usr/local/bin/moto_server
    fi
fi
