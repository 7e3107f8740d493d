# What submit.sh and its jobs read.

DATA=/data/study/derivatives/fmriprep   # the dataset
OUT=/data/study/parcels                 # results
WORK=/scratch/$(id -un)/parcels           # intermediate results; the same for all jobs

# The options of all jobs, participants and group alike.
OPTIONS=(--space MNI152NLin2009cAsym --n-parcels 100 200)

# The command; for a container for example
#   APP=(apptainer run --cleanenv --containall --bind "$DATA:$DATA:ro,$OUT,$WORK" /apps/bids-parcellate.sif)
# or, with OUT and WORK made before,
#   APP=(docker run --rm --read-only --tmpfs /tmp --network none -u "$(id -u):$(id -g)" -m 4g
#        -v "$DATA:$DATA:ro" -v "$OUT:$OUT" -v "$WORK:$WORK" bids-parcellate)
APP=(bids-parcellate)

# Everyone in the dataset, or a list: PARTICIPANTS=(01 02 03)
PARTICIPANTS=($(cd "$DATA" && ls -d sub-*/ | sed 's/^sub-//; s|/$||'))

AT_ONCE=50                              # tasks that run at the same time
