#!/usr/bin/env bash
# Where CHAOS_MINUTES is set, as to 10: whether the run can fail, and a run of so many minutes on each store that CHAOS_STORES
# names. CHAOS_BINARY is the gateway, CHAOS_SEED a seed. Without CHAOS_MINUTES nothing is run.
set -euo pipefail
cd "$(dirname "$0")/../.."

[[ -n ${CHAOS_MINUTES:-} ]] || {
    echo "tests/chaos: not run; CHAOS_MINUTES=10 asks for it"
    exit 0
}
binary=${CHAOS_BINARY:-target/release/doorward}
seed=${CHAOS_SEED:-$RANDOM}
failed=0
python3 tests/chaos/chaos.py --self-test --binary "$binary" --seed "$seed" || failed=1
for store in ${CHAOS_STORES:-standalone sentinel cluster file memory}; do
    python3 tests/chaos/chaos.py --store "$store" --minutes "$CHAOS_MINUTES" --binary "$binary" --seed "$seed" || failed=1
done
exit "$failed"
