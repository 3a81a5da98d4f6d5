#!/bin/sh
# Bugs put in on purpose: each must be found. `tests/simulation/mutants.sh [seeds] [name …]` applies each patch to a scratch
# worktree of HEAD, runs the simulation there until it fails, and tells after how many seeds it did.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
seeds=${1:-400}
[ $# -gt 0 ] && shift
folder=$(mktemp -d)
trap 'git worktree remove --force "$folder/tree" 2>/dev/null || true; rm -rf "$folder"' EXIT
git worktree add --quiet --detach "$folder/tree" HEAD
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target/mutants}"
survived=0
for patch in "$root"/tests/simulation/mutants/*.patch; do
    name=$(basename "$patch" .patch)
    if [ $# -gt 0 ]; then
        case " $* " in *" $name "*) ;; *) continue ;; esac
    fi
    git -C "$folder/tree" checkout --quiet -- .
    if ! git -C "$folder/tree" apply "$patch"; then
        echo "$name: the patch does not apply any more"
        survived=1
        continue
    fi
    if ! (cd "$folder/tree" && cargo build --quiet ${PROFILE:-} --example simulate); then
        echo "$name: does not compile"
        survived=1
        continue
    fi
    if (cd "$folder/tree" && cargo run --quiet ${PROFILE:-} --example simulate -- --seeds "$seeds" --no-shrink) \
        >"$folder/out" 2>/dev/null; then
        echo "$name: NOT FOUND in $seeds seeds"
        survived=1
    else
        echo "$name: $(grep -m 1 -E '^seed ' "$folder/out" | cut -c 1-140)"
    fi
done
exit $survived
