# What the scripts here share. Sourced.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Kept between runs, as Cargo's own folder is.
builds=${CARGO_TARGET_DIR:-$repository/target}/consumers
mkdir -p "$builds"
builds=$(cd "$builds" && pwd)
unset CARGO_TARGET_DIR
# All that is not kept: outside the repository, as a user's project is.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$repository/Cargo.toml" | head -n 1)

say() { printf -- '-- %s (%ss)\n' "$1" "$SECONDS"; }

fail() {
    printf 'FAILED: %s\n' "$1" >&2
    exit 1
}

# Runs a command; what it says is shown only if it fails.
quietly() {
    if ! "$@" >"$scratch/log" 2>&1; then
        cat "$scratch/log" >&2
        fail "$*"
    fi
}

# Runs a command that must fail.
refused() {
    if "$@" >"$scratch/log" 2>&1; then
        fail "succeeded, but must not: $*"
    fi
}

# Runs a consumer: it does its work, and with an argument, which makes one of its expectations wrong, it notices.
works() {
    local said
    said=$("$@" 2>"$scratch/log") || { cat "$scratch/log" >&2; fail "$*"; }
    test "$said" = ok || fail "$* said \"$said\", not \"ok\""
    refused "$@" wrong
}

# What loading the shared library $3, with the headers in $2, and making a pool takes. For the record.
time_to_load() {
    gcc -I"$2" "$repository/tests/consumers/c/load.c" "${@:4}" -o "$scratch/load"
    for _ in {1..20}; do
        "$scratch/load" "$3"
    done | sort -n | head -n 1 | sed "s/^/   $1: /"
}

# Builds the library with CMake in $builds/$1; the rest are arguments for CMake.
build() {
    quietly cmake -S "$repository" -B "$builds/$1" "${@:2}"
    quietly cmake --build "$builds/$1"
}

for tool in cmake pkg-config gcc g++ clang clang++ cargo nm readelf; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
done
