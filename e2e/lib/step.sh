#!/usr/bin/env bash
# step.sh NAME COMMAND...: runs COMMAND as one step.
# On a terminal one line with the elapsed time; in a pipe one line at the start, one every half minute and one at
# the end; with V=1 everything the command prints. A failure shows the end of the log and where the rest is.
set -u
name=$1; shift
log_dir="${SLIPWAY_CACHE:-$HOME/.cache/slipway}/logs"; mkdir -p "$log_dir"
log="$log_dir/$(printf '%s' "$name" | tr -c 'A-Za-z0-9\n' '-').log"
start=$SECONDS
clock() { local s=$((SECONDS - start)); printf '%d:%02d' $((s / 60)) $((s % 60)); }

if [ "${V:-0}" = 1 ]; then
  echo "== $name"
  "$@" 2>&1 | tee "$log"; code=${PIPESTATUS[0]}
else
  [ -t 1 ] || echo "   $name …"
  "$@" >"$log" 2>&1 </dev/null &
  child=$!
  trap 'kill "$child" 2>/dev/null' INT TERM
  ticks=0
  while kill -0 "$child" 2>/dev/null; do
    if [ -t 1 ]; then
      last=$(tail -c 300 "$log" 2>/dev/null | tr -d '\r' | grep -v '^$' | tail -n 1 | cut -c1-60)
      printf '\r\033[K   %s  %s  %s' "$(clock)" "$name" "$last"
    elif [ $((++ticks % 60)) = 0 ]; then
      echo "   $(clock)  $name: $(tail -n 1 "$log" 2>/dev/null | cut -c1-100)"
    fi
    sleep 0.5
  done
  wait "$child"; code=$?
  [ -t 1 ] && printf '\r\033[K'
fi
if [ "$code" = 0 ]; then
  echo "✓  $(clock)  $name"
  # The runners' own closing lines are part of the answer, not only of the log.
  if [ "${V:-0}" != 1 ] && [ "${SHOW:-}" != "" ]; then grep -aE "$SHOW" "$log" || true; fi
else
  echo "✗  $(clock)  $name (exit $code)"
  [ "${V:-0}" = 1 ] || { tail -n "${TAIL:-60}" "$log"; echo "   all of it: $log"; }
fi
exit "$code"
