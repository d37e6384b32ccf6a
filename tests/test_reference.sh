#!/bin/sh
# test_reference.sh TANDEM: what the host device computes, against the same model in PyTorch (tests/reference): loss,
# gradients and Adam of several kinds of models, on one rank and on sixteen.
set -u
tandem=$(realpath "$1") || exit 1
reference=$(dirname "$(realpath "$0")")/reference/reference.py
bad=0
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
unset TANDEM_ROOT
cd "$scratch" || exit 1

fail() {
    printf 'FAILED: %s\n' "$1"
    sed 's/^/    /' out
    bad=1
}

if "$tandem" list engines | grep -q 'host *missing'; then
    printf 'skipped: the host device is not built in\n'
    exit 77
fi
# Distributions install PyTorch for their own interpreter, which need not be the first in the path.
python=
for candidate in "${TANDEM_PYTHON:-}" python3 /usr/bin/python3; do
    if [ -n "$candidate" ] && "$candidate" -c 'import numpy, torch' >/dev/null 2>&1; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    printf 'skipped: no python3 has torch (apt-get install python3-torch, or set TANDEM_PYTHON)\n'
    exit 77
fi

# compare NAME ARGUMENT...: dumps a run and holds it against PyTorch.
compare() {
    name=$1
    shift
    "$tandem" run "$@" -q --no-files --dump "$name" >out 2>&1 </dev/null || fail "$name: the run failed"
    "$python" "$reference" "$name" >out 2>&1 || fail "$name differs from PyTorch"
    for what in loss gradient weight; do
        grep -q "^ok *$what: " out || fail "$name: no $what was compared"
    done
    [ "$bad" -ne 0 ] || sed 's/^/    /' out
}

one="--set parallel.tp=1 --set parallel.ep=1 --set parallel.pp=1 --set parallel.dp=1 --set parallel.sp=false
    --set schedule.num_microbatches=2 --set schedule.name=1f1b"
# Word splitting of $one is wanted.
# shellcheck disable=SC2086
{
    # Layer norm, GELU, experts with drops.
    compare moe small-16rank-host $one
    # As Llama, Qwen3 and gpt-oss: RMS norm, SwiGLU, rotary positions, grouped queries, norms of heads, sinks, shared experts.
    cat >modern.yaml <<'END'
num_layers: 3
hidden_size: 64
num_attention_heads: 4
num_query_groups: 2
kv_channels: 24
ffn_hidden_size: 96
num_experts: 4
moe_router_topk: 2
moe_ffn_hidden_size: 48
moe_shared_expert_intermediate_size: 32
moe_layer_freq: 2
vocab_size: 128
untie_embeddings_and_output_weights: false
swiglu: true
add_bias_linear: false
qk_layernorm: true
softmax_type: learnable
normalization: RMSNorm
position_embedding_type: rope
attention_backend: fused
hidden_dropout: 0
attention_dropout: 0
END
    compare modern small-16rank-host $one --set model=./modern.yaml
    # As GPT-3: biases, learned positions, a tied head, attention in separate kernels.
    cat >classic.yaml <<'END'
num_layers: 2
hidden_size: 64
num_attention_heads: 4
ffn_hidden_size: 256
vocab_size: 128
max_position_embeddings: 40
untie_embeddings_and_output_weights: false
swiglu: false
add_bias_linear: true
normalization: LayerNorm
position_embedding_type: learned_absolute
attention_backend: unfused
hidden_dropout: 0
attention_dropout: 0
END
    compare classic small-16rank-host $one --set model=./classic.yaml
}
# The layout of sixteen ranks computes the same model; so do those that split experts, and pad them to a capacity that
# each rank fills on its own, with half a sequence.
compare sixteen small-16rank-host
compare split small-16rank-host --set parallel.ep=2 --set parallel.etp=2 --set batch.micro_batch_size=1 \
    --set routing.pad_to_capacity=true --set routing.exponent=1
compare split-gated small-16rank-host --set model=./modern.yaml --set parallel.pp=1 --set parallel.ep=2 \
    --set parallel.etp=4 --set schedule.name=1f1b
"$python" - split <<'END' || fail "nothing was dropped where experts are padded"
import sys, numpy
sys.exit(not (numpy.load(sys.argv[1] + "/routing.npy") < 0).any())
END

# The comparison sees what is wrong: one number of one weight.
"$python" - sixteen <<'END'
import sys, numpy
path = sys.argv[1] + "/step-1/gradient.layer-1.proj.npy"
array = numpy.load(path)
array[3, 3] += 0.01 * abs(array).max()
numpy.save(path, array)
END
"$python" "$reference" sixteen >out 2>&1 && fail "a wrong gradient is not seen"
grep -q 'WRONG gradient: .* at sixteen/step-1 layer-1.proj' out || fail "the wrong gradient is not named"

"$tandem" run small-16rank-host --dump sixteen >out 2>&1 </dev/null && fail "a dump over another"
grep -q 'run: --dump: sixteen is there already' out || fail "a dump over another is not refused"

[ "$bad" -eq 0 ]
