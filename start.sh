#!/bin/sh
# Installs on first use, then opens a page in the browser. Pictures and folders given as arguments are enlarged.
# It only looks for a Python that starts; scripts/start.py does the rest. On Windows: start.cmd
here=$(cd "$(dirname "$0")" && pwd) || exit 1
for python in python3 python3.12 python3.11 python3.10 python3.9 python3.8 python3.13 python3.14 python; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' < /dev/null > /dev/null 2>&1; then
        exec "$python" "$here/scripts/start.py" "$@"
    fi
done
echo "No Python of 3.8 or newer was found." >&2
if ! command -v uv > /dev/null 2>&1; then
    echo "Install one (Debian, Ubuntu: sudo apt install python3 python3-venv; macOS: https://www.python.org/downloads/)" >&2
    echo "and start this again." >&2
    exit 1
fi
printf 'uv is here and can fetch Python 3.12 for you alone (about 25 MB). Type y and press Enter: '
read -r answer
[ "$answer" = y ] || exit 1
uv python install 3.12 || exit 1
exec uv run --no-project --python 3.12 "$here/scripts/start.py" "$@"
