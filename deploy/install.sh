#!/bin/sh
# Installs Discovery on Debian and its like: a user, a Python of its own in /opt/discovery, units, a configuration.
#
#   deploy/install.sh [--dry-run] [WHEEL]        install, or upgrade; from this checkout, or from a wheel
#   deploy/install.sh --uninstall [--purge]      take it away; with --purge the configuration and the store as well
#
# It shows every command before it runs it, starts and stops nothing but what --uninstall takes away, and keeps a
# configuration that is there. Running it again does no harm. It wants root, python3 3.11 to 3.13 with venv, and what pip needs.
set -eu
umask 022  # whatever root's is: the service's user has to get into what is made here

HOME_DIR=/opt/discovery
COMMAND=/usr/local/bin/discovery
CONFIG=/etc/discovery
STORE=/var/lib/discovery
LOGS=/var/log/discovery
UNITS=/usr/local/lib/systemd/system
NAMES="discovery.service discovery.socket discovery-agent.service"
HERE=$(cd "$(dirname "$0")" && pwd)
PYTHON=${PYTHON:-python3}

dry='' uninstall='' purge='' source="$HERE/.."
for word in "$@"; do
    case $word in
        --dry-run) dry=1 ;;
        --uninstall) uninstall=1 ;;
        --purge) purge=1 ;;
        -h | --help) sed -n 's/^# \{0,1\}//; 2,8p' "$0"; exit 0 ;;
        *.whl) source=$word ;;
        *) echo "install.sh: $word is not known: see --help" >&2; exit 2 ;;
    esac
done
if [ -n "$purge" ] && [ -z "$uninstall" ]; then
    echo "install.sh: --purge goes with --uninstall" >&2; exit 2
fi
if [ -z "$dry" ] && [ "$(id -u)" != 0 ]; then
    echo "install.sh: run it as root, or with --dry-run to see what it would do" >&2; exit 1
fi

run() {
    echo "+ $*"
    [ -n "$dry" ] || "$@"
}

systemd_runs() { [ -d /run/systemd/system ]; }

if [ -n "$uninstall" ]; then
    if systemd_runs; then
        for unit in $NAMES; do
            [ ! -e "$UNITS/$unit" ] || run systemctl disable --now --quiet "$unit"
        done
    fi
    for unit in $NAMES; do run rm -f "$UNITS/$unit"; done
    if systemd_runs; then run systemctl daemon-reload; fi
    [ "$(readlink "$COMMAND" || true)" != "$HOME_DIR/bin/discovery" ] || run rm "$COMMAND"
    run rm -rf "$HOME_DIR"
    if [ -z "$purge" ]; then
        echo "Kept: $CONFIG, $STORE, $LOGS and the user discovery; --purge takes them too."
        exit 0
    fi
    run rm -rf "$CONFIG" "$STORE" "$LOGS"
    if getent passwd discovery >/dev/null; then run userdel discovery; fi
    exit 0
fi

"$PYTHON" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || {
    echo "install.sh: $PYTHON is not Python 3.11 to 3.13 with venv: apt-get install python3-venv, or set PYTHON" >&2; exit 1
}
if [ ! -e "$source" ]; then
    echo "install.sh: there is no file $source" >&2; exit 1
fi
if [ -e "$COMMAND" ] && [ "$(readlink "$COMMAND" || true)" != "$HOME_DIR/bin/discovery" ]; then
    echo "install.sh: $COMMAND is there and not ours: move it away first" >&2; exit 1
fi

getent passwd discovery >/dev/null ||
    run useradd --system --user-group --home-dir "$STORE" --no-create-home --shell /usr/sbin/nologin discovery
[ -x "$HOME_DIR/bin/python" ] || run "$PYTHON" -m venv "$HOME_DIR"
if [ -d "$source" ]; then  # built in a copy: nothing is left in the checkout, and nothing that lies there gets in
    work=/tmp/discovery-source
    if [ -z "$dry" ]; then
        work=$(mktemp -d)
        trap 'rm -rf "$work"' EXIT
    fi
    run mkdir -p "$work/source"
    run tar -C "$source" --exclude='./.*' --exclude=./build --exclude='*.egg-info' --exclude='*.so' -cf "$work/source.tar" .
    run tar -C "$work/source" --no-same-owner -xf "$work/source.tar"
    run "$HOME_DIR/bin/pip" wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work" "$work/source"
    [ -n "$dry" ] || source=$(ls "$work"/*.whl)
fi
# What it needs; then itself, also where the same version is there already.
run "$HOME_DIR/bin/pip" install --quiet --disable-pip-version-check --upgrade "${source}[etcd]"
run "$HOME_DIR/bin/pip" install --quiet --disable-pip-version-check --force-reinstall --no-deps "$source"
run install -d "$(dirname "$COMMAND")" "$UNITS"
run ln -sfn "$HOME_DIR/bin/discovery" "$COMMAND"
run install -d "$CONFIG"
if [ -e "$CONFIG/discovery.yaml" ]; then
    echo "Kept: $CONFIG/discovery.yaml"
else
    run install -o root -g discovery -m 0640 "$HERE/systemd/discovery.yaml" "$CONFIG/discovery.yaml"
fi
for unit in $NAMES; do run install -m 0644 "$HERE/systemd/$unit" "$UNITS/$unit"; done
if systemd_runs; then run systemctl daemon-reload; fi
cat <<'END'
Installed; nothing was started.
  discovery config check                                     after a look at /etc/discovery/discovery.yaml
  systemctl enable --now discovery                           starts it; after an upgrade: systemctl restart discovery
  systemctl enable --now discovery.socket discovery          the same with DNS on port 53 of all addresses, held over restarts
END
