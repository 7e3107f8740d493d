#!/usr/bin/env bash
# Submit bids-parcellate to Slurm: a task for each participant, any number at once, and then the group.
#
#   ./submit.sh SETTINGS [sbatch options, such as --partition=short]
#
# Give the same command again when tasks have failed: only those that have not succeeded are submitted, and then the
# group. Nothing is lost if one is submitted for nothing: what is done and unchanged is not done again.
# SETTINGS is a file as settings.sh beside this script. All folders must be seen by all nodes.
set -euo pipefail

settings=$(realpath "$1")
shift
here=$(dirname "$(realpath "$0")")
source "$settings"

# What is done is remembered for each set of options: with other ones, all participants are submitted anew.
state=$WORK/slurm/$(printf '%s\n' "$DATA" "$OUT" "${OPTIONS[@]}" | sha256sum | cut -c1-16)
mkdir -p "$state/done" "$OUT"
mapfile -t todo < <(comm -23 <(printf '%s\n' "${PARTICIPANTS[@]}" | sort -u) <(ls "$state/done" | sort))

after=()
if ((${#todo[@]})); then
    # Tasks that wait read their own list, whatever is submitted later.
    list=$(mktemp "$state/participants.XXXXXX")
    printf '%s\n' "${todo[@]}" >"$list"
    array=$(sbatch --parsable --array="1-${#todo[@]}%$AT_ONCE" --output="$state/%A_%a.log" "$@" \
        "$here/participant.sbatch" "$settings" "$list" "$state")
    echo "job ${array%%;*}: ${#todo[@]} participants: ${todo[*]}"
    after=(--dependency="afterok:${array%%;*}" --kill-on-invalid-dep=yes)
fi
group=$(sbatch --parsable --output="$state/%j_group.log" "${after[@]}" "$@" "$here/group.sbatch" "$settings")
echo "job ${group%%;*}: the group; logs are in $state"
