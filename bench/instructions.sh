#!/usr/bin/env bash
# Instructions a request, counted by callgrind: they do not depend on what else the machine does. Fails where a variant costs
# more, as a multiple of bare, than bench/instructions.txt allows.
#
#   bench/instructions.sh [variant...]      REQUESTS=500 KEEP=folder LIMITS=dist
#
# KEEP: where callgrind's files are left, for callgrind_annotate. LIMITS: the column of bench/instructions.txt.
# DOORWARD and BARE name binaries to count instead of building them. valgrind hides some of the processor's instructions for
# cryptography: figures with a digest or a signature are higher than on the metal.
set -euo pipefail

requests=${REQUESTS:-500}
workers=1

# shellcheck source=bench/setup.sh
source "$(dirname "$0")/setup.sh"
# shellcheck source=bench/variants.sh
source "$(dirname "$0")/variants.sh"

counted=(bare public bearer_hit session_memory)

main() {
    local variants=("$@") v count ratio limit column bare_count=0 failed=0
    ((${#variants[@]})) || variants=("${counted[@]}")
    command -v valgrind >/dev/null || die "valgrind is missing"
    prepare "${variants[@]}"
    tries=900
    case ${LIMITS:-dist} in dist) column=2 ;; debug) column=3 ;; *) die "no such limits: $LIMITS" ;; esac
    under=(valgrind --tool=callgrind "--callgrind-out-file=$work/callgrind.%p" --quiet)
    echo "| variant        | instructions a request | / bare | limit |"
    echo "|----------------|-----------------------:|-------:|------:|"
    for v in "${variants[@]}"; do
        "start_$v"
        await "${url[$v]}${path[$v]:-/}" "$v" "${answer[$v]:-200}"
        ask "$v" 100 # connections, caches and the allocator are warm
        count=$(count_of "$v")
        stop "$v"
        [[ $v != bare ]] || bare_count=$count
        ratio=- limit=-
        if ((bare_count)); then
            ratio=$(awk -v a="$count" -v b="$bare_count" 'BEGIN { printf "%.3f", a / b }')
            limit=$(awk -v name="$v" -v at="$column" '$1 == name { print $at }' "$root/bench/instructions.txt")
            awk -v a="$ratio" -v b="${limit:-9}" 'BEGIN { exit a > b }' || failed=1
        fi
        printf '| %-14s | %22d | %6s | %5s |\n' "${v//_/ }" "$count" "$ratio" "${limit:--}"
    done
    ((failed == 0)) || die "more instructions than bench/instructions.txt allows"
}

count_of() {
    callgrind_control -z "${pid[$1]}" >/dev/null
    ask "$1" "$requests"
    callgrind_control -d "${pid[$1]}" >/dev/null
    [[ -z ${KEEP:-} ]] || cp "$work/callgrind.${pid[$1]}.1" "$KEEP/callgrind.$1"
    local all
    all=$(sed -n 's/^totals: //p' "$work/callgrind.${pid[$1]}.1" | awk '{ sum += $1 } END { printf "%d", sum }')
    echo $((all / requests))
}

ask() {
    local headers
    headers=$(head_of "$1")
    headers=${headers//$'\n'/$'\r\n'}$'\r\n'
    python3 "$root/bench/requests.py" "${url[$1]}${path[$1]:-/}" "$2" "$headers" "${answer[$1]:-200}"
}

main "$@"
