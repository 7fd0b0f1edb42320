# Ends what is left of a test run once the run itself has ended, in whatever way: the run holds the
# other end of standard input open. The directory comes by environment, so that this script's own
# command line does not look like one of the run's processes.
trap '' HUP INT QUIT TERM
while read -r _; do :; done

of_the_run() {
    printf '%s/\n' "$RUN" | grep -slaFf - /proc/[0-9]*/cmdline | sed 's,/proc/,,; s,/cmdline,,'
}

# Numbers are given away again, and on a busy machine soon: a stranger may have one by now.
is_of_the_run() {
    printf '%s/\n' "$RUN" | grep -qsaFf - "/proc/$1/cmdline"
}

# Frozen processes hold their postmaster's shutdown up.
thaw_children_of() {
    for stat in /proc/[0-9]*/stat; do
        read -r line 2>/dev/null <"$stat" || continue
        child=${line%% *}
        set -- "$1" ${line##*) }
        [ "$3" = "$1" ] && kill -CONT "$child"
    done
}

rounds=0
empty=0
# Twice empty, since a process may have been about to start another.
while [ "$empty" -lt 2 ]; do
    found=$(of_the_run)
    if [ -z "$found" ]; then empty=$((empty + 1)); else empty=0; fi
    for pid in $found; do
        if [ "$rounds" -eq 0 ]; then thaw_children_of "$pid"; fi
        is_of_the_run "$pid" || continue
        kill -CONT "$pid"
        # Immediate shutdown to a server; anything else ends by it, too, with all it started.
        if [ "$rounds" -lt 100 ]; then signal=QUIT; else signal=KILL; fi
        kill -s "$signal" "$pid"
        kill -s "$signal" -- "-$pid"
    done
    rounds=$((rounds + 1))
    sleep 0.03
done

# A server killed with -9 leaves its shared memory segment behind.
for pidfile in "$RUN"/*/data/postmaster.pid; do
    [ -f "$pidfile" ] || continue
    segment=$(sed -n '7s/.* //p' "$pidfile")
    [ -n "$segment" ] && ipcrm -m "$segment"
done
# The run's last threads may still be copying files there.
rounds=0
while rm -rf "$RUN" 2>/dev/null; [ -e "$RUN" ] && [ "$rounds" -lt 100 ]; do
    rounds=$((rounds + 1))
    sleep 0.03
done
