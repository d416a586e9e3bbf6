#!/bin/sh
# resume.sh ROOT BUILD - a run that is stopped by a signal or killed, in the middle of each phase,
# ends after `thaw resume` with the same bits as one that was left alone.
#
# The events go through a pipe that this script reads, so the program can never be more than a pipe's
# buffer ahead: the signal arrives in the phase it is meant for, however fast the machine is.
. "$(dirname "$0")/lib.sh"
tiny_recipe | sed 's/^every = .*/every = "40 steps"/; s/^epochs = .*/steps = 600/' >tiny.toml

# run_until PHASE SIGNALS RUN: train, send SIGNALS at step 100 of PHASE; the exit code in $code
run_until() {
    mkfifo events
    env --default-signal=INT "$thaw" train tiny.toml --json --run "$3" >events 2>err &
    pid=$!
    exec 3<events
    while read -r line <&3; do
        case $line in
        '{"event": "step", "phase": '"$1"','*'"phase_step": 100,'*)
            for signal_name in $2; do
                kill -s "$signal_name" $pid
            done
            ;;
        esac
    done
    exec 3<&-
    wait $pid
    code=$?
    rm events
}

last() {
    find "$1/checkpoints" -maxdepth 1 -name 'step-*' | LC_ALL=C sort | tail -n 1
}

expect 0 "" "$thaw" train tiny.toml --run whole
for phase in 1 2; do
    for signal in INT TERM KILL; do
        run=$signal-$phase
        checks=$((checks + 1))
        run_until $phase $signal "$run"
        case $signal in
        KILL) [ $code -eq 137 ] || fail "killed, but ended with $code" ;;
        *)
            [ $code -eq 75 ] || fail "$signal in phase $phase: ended with $code, not 75: $(cat err)"
            has err "thaw resume $run"
            has err " s after the signal; go on with"
            ;;
        esac
        [ "$(basename "$(last "$run")")" != "$(basename "$(last whole)")" ] || fail "$run was over"
        expect 0 "" "$thaw" resume "$run"
        for file in model.safetensors optimizer.safetensors config.json; do
            same "$(last whole)/$file" "$(last "$run")/$file"
        done
        same whole/best/model.safetensors "$run/best/model.safetensors"
    done
done

# Asked to save, a run goes on to its end, with one checkpoint more than it would have; the recipe
# keeps three, and one at the end of each phase.
sed 's/^every = .*/every = "off"/' tiny.toml >rare.toml
mv rare.toml tiny.toml
checks=$((checks + 1))
run_until 1 USR1 asked
[ $code -eq 0 ] || fail "SIGUSR1: ended with $code: $(cat err)"
checks=$((checks + 1))
n=$(find asked/checkpoints -maxdepth 1 -name 'step-*' | wc -l)
[ "$n" -eq 3 ] || fail "SIGUSR1: $n checkpoints, not 3"
same "$(last whole)/model.safetensors" "$(last asked)/model.safetensors"

# A second signal does not wait for the step to end. (Stopped, it cannot end between the two.)
run_until 1 "STOP TERM INT CONT" twice
checks=$((checks + 1))
[ $code -eq 143 ] || [ $code -eq 130 ] || fail "two signals: ended with $code, not 130 or 143"

# A run that is over stays as it is.
cp -r whole over
expect 0 "" "$thaw" resume over
same "$(last whole)/model.safetensors" "$(last over)/model.safetensors"

# What cannot be resumed says so.
expect 66 "" "$thaw" resume absent
mkdir hollow
expect 66 "" "$thaw" resume hollow

# Two processes never write one run.
mkfifo events
"$thaw" train tiny.toml --json --run locked >events 2>err &
pid=$!
exec 3<events
read -r line <&3
expect 73 "" "$thaw" resume locked
kill -s KILL $pid
exec 3<&-
wait $pid

finish
