#!/bin/sh
# Reproduces the two models: tokenizer, target, draft, export, evaluation.
# Usage: run.sh [WORK] [TARGET_MINUTES] [DRAFT_MINUTES]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-$HOME/.cache/obsidian-train}
target_minutes=${2:-65}
draft_minutes=${3:-25}
mkdir -p "$work"
[ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet -r "$here/requirements.txt"
# One thread leaves the other core to its owner; keeping freed memory saves
# the kernel from clearing hundreds of megabytes of pages in every step.
export OMP_NUM_THREADS="${THREADS:-1}" MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=268435456
python="$work/venv/bin/python"
cd "$here"
# The vocabulary is frozen: drafts and hubs agree on it. To grow a new one
# from the corpus run: python tokenizer.py vocabulary.json
cp vocabulary.json "$work/tokenizer.json"
"$python" train.py target --work "$work" --threads "$OMP_NUM_THREADS" --minutes "$target_minutes" --decay-minutes $((target_minutes * 2 / 5))
"$python" train.py draft --work "$work" --threads "$OMP_NUM_THREADS" --seed 7 --minutes "$draft_minutes" --decay-minutes 0.1
cp "$work/draft.pt" "$work/draft_pretrained.pt"
"$python" train.py draft --work "$work" --threads "$OMP_NUM_THREADS" --seed 8 --resume "$work/draft_pretrained.pt" --teacher "$work/target.pt" --minutes "$draft_minutes" --decay-minutes $((draft_minutes * 2 / 5))
for model in target draft; do
  "$python" export.py "$model" --work "$work" --out "$here/../obsidian-$model.gguf"
done
"$python" evaluate.py --work "$work" --models "$here/.."
"$python" golden.py --work "$work" --out "$here/../golden" --models "$here/.."
