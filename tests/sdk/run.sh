#!/usr/bin/env bash
# Drives the vendors' own SDKs, Python and Node, against the sandboxes: another judge of whether these are faithful.
#
#   bash tests/sdk/run.sh            both languages
#   bash tests/sdk/run.sh python     one of them
#
# It installs the SDKs into a folder of its own (LINKSPAN_SDK_DIR keeps it for the next time), from PyPI and npm. A
# language whose tools are not here, or whose SDKs do not come within a minute, is skipped with a note: that is no
# failure of ours, unless LINKSPAN_SDK_REQUIRED=1.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."

folder=${LINKSPAN_SDK_DIR:-}
if [[ -z $folder ]]; then
  folder=$(mktemp -d)
  remove_folder() { rm -rf "$folder"; }
else
  mkdir -p "$folder"
  remove_folder() { :; }
fi
sandbox=
finish() {
  if [[ -n $sandbox ]]; then kill "$sandbox" 2>/dev/null || true; fi
  remove_folder
}
trap finish EXIT

skipped() {
  echo "skipped: $1" >&2
  if [[ ${LINKSPAN_SDK_REQUIRED:-0} == 1 ]]; then exit 1; fi
}

python_sdks=(python-intercom==5.0.1 brevo-python==5.1.0)
node_sdks=(intercom-client@7.0.3 @getbrevo/brevo@6.0.3)

# Says which versions are whole: an installation that was cut off is begun anew.
has_whole() {
  [[ -f $folder/$1.whole && $(<"$folder/$1.whole") == "${*:2}" ]]
}

has_python() {
  has_whole python "${python_sdks[@]}" && return
  command -v python3 >/dev/null || return 1
  rm -rf "$folder/python"
  timeout 60 python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
    --target "$folder/python" "${python_sdks[@]}" >"$folder/python.log" 2>&1 || return 1
  echo "${python_sdks[*]}" >"$folder/python.whole"
}

has_node() {
  has_whole node "${node_sdks[@]}" && return
  command -v node >/dev/null && command -v npm >/dev/null || return 1
  rm -rf "$folder/node"
  mkdir -p "$folder/node"
  timeout 60 npm install --silent --no-audit --no-fund --prefix "$folder/node" "${node_sdks[@]}" \
    >"$folder/node.log" 2>&1 || return 1
  echo "${node_sdks[*]}" >"$folder/node.whole"
}

start_sandbox() {
  : >"$folder/sandbox.json"
  "${CARGO_TARGET_DIR:-target}/debug/linkspan" sandbox --json --contacts 400 --intercom-port 0 --brevo-port 0 \
    >"$folder/sandbox.json" 2>"$folder/sandbox.log" &
  sandbox=$!
  for _ in $(seq 300); do
    [[ -s $folder/sandbox.json ]] && break
    sleep 0.1
  done
  [[ -s $folder/sandbox.json ]] || { cat "$folder/sandbox.log" >&2; echo "the sandbox did not start" >&2; exit 1; }
  LINKSPAN_SANDBOX=$(head -n 1 "$folder/sandbox.json")
  export LINKSPAN_SANDBOX
}

stop_sandbox() {
  kill "$sandbox" 2>/dev/null || true
  sandbox=
}

wanted=${1:-both}
cargo build --quiet
if [[ $wanted != node ]]; then
  if has_python; then
    start_sandbox
    PYTHONPATH="$folder/python" python3 "$here/intercom_workspace.py"
    PYTHONPATH="$folder/python" python3 "$here/brevo_account.py"
    stop_sandbox
  else
    skipped "Python and its SDKs are not to be had here"
  fi
fi
if [[ $wanted != python ]]; then
  if has_node; then
    start_sandbox
    NODE_PATH="$folder/node/node_modules" node "$here/intercom.cjs"
    NODE_PATH="$folder/node/node_modules" node "$here/brevo.cjs"
    stop_sandbox
  else
    skipped "Node and its SDKs are not to be had here"
  fi
fi
