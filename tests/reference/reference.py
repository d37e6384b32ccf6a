"""reference.py DUMP: the model of a dump (`tandem run --dump`) written again with PyTorch, by autograd and in fp64:
loss, gradients and norm of every step from that step's words and weights, and the weights of the next step by
torch.optim.Adam. Prints the largest differences; exit status 0 within TOLERANCE, 1 beyond, 77 without PyTorch."""

import json
import os
import sys

try:
    import numpy
    import torch
    import torch.nn.functional as F
except ImportError as error:
    print(f"skipped: {error} (apt-get install python3-torch)")
    sys.exit(77)

TOLERANCE = 1e-5  # relative: of numbers, and of the length of what differs to the length of a tensor
# Gradients shorter than that share of the whole gradient are rounding: compared to this much of it instead.
LEAST_SHARE = 1e-3


def load(*parts):
    return torch.from_numpy(numpy.load(os.path.join(*parts)).astype(numpy.float64))


class Model:
    """The layers as formulas on a dictionary of weights, BLOCK.NAME to a [rows, columns] matrix."""

    def __init__(self, sizes, routing, weights):
        self.c, self.routing, self.w = sizes, routing, weights

    def get(self, name):
        return self.w.get(name)

    def norm(self, x, name):
        weight, n = self.w[name].reshape(-1), x.shape[-1]
        if self.c["rms_norm"]:
            return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * weight
        return F.layer_norm(x, (n,), weight[:n], weight[n:], 1e-5)

    def linear(self, x, name):
        bias = self.get(name + ".bias")
        y = x @ self.w[name].reshape(x.shape[-1], -1)
        return y if bias is None else y + bias.reshape(-1)

    def activation(self, x):
        if self.c["swiglu"]:
            gate, up = x.chunk(2, -1)
            return F.silu(gate) * up
        return F.gelu(x, approximate="tanh")

    def rotate(self, x):
        """x [samples, positions, heads, size]: the first half of a head turns with its second."""
        half = x.shape[-1] // 2
        angle = torch.arange(x.shape[1], dtype=x.dtype)[:, None] * 10000.0 ** (
            -torch.arange(half, dtype=x.dtype) / half)
        cos, sin = angle.cos()[:, None, :], angle.sin()[:, None, :]
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def attention(self, x, block):
        c, (b, s, _) = self.c, x.shape
        heads, groups, d = c["num_attention_heads"], c["num_query_groups"], c["kv_channels"]
        q, k, v = self.linear(x, block + ".qkv").split([heads * d, groups * d, groups * d], -1)
        q, k, v = (t.reshape(b, s, -1, d) for t in (q, k, v))
        if c["qk_layernorm"]:
            q, k = self.norm(q, block + ".q.norm"), self.norm(k, block + ".k.norm")
        if c["rope"]:
            q, k = self.rotate(q), self.rotate(k)
        k, v = (t.repeat_interleave(heads // groups, 2) for t in (k, v))
        scores = torch.einsum("bihd,bjhd->bhij", q, k) / d**0.5
        scores = scores.masked_fill(torch.ones(s, s).triu(1).bool(), float("-inf"))
        sinks = self.get(block + ".sinks")
        if sinks is not None:
            scores = torch.cat([scores, sinks.reshape(1, -1, 1, 1).expand(b, heads, s, 1)], -1)
        weights = scores.softmax(-1)[..., :s]
        return self.linear(torch.einsum("bhij,bjhd->bihd", weights, v).reshape(b, s, -1), block + ".proj")

    def mlp(self, x, block):
        return self.linear(self.activation(self.linear(x, block + ".fc1")), block + ".fc2")

    def experts(self, x, block, layer):
        """Every expert on its tokens, weighted by the softmax over all experts; the routing is the dump's."""
        shape, x = x.shape, x.reshape(-1, x.shape[-1])
        probability = self.linear(x, block + ".gate").softmax(-1)
        choice = self.routing[layer].reshape(x.shape[0], -1)
        y = torch.zeros_like(x)
        for e in range(self.c["num_experts"]):
            token = (choice == e).any(-1).nonzero()[:, 0]  # dropped choices are negative
            part = x[token] @ self.w[block + ".fc1"][e].reshape(x.shape[-1], -1)
            bias1, bias2 = self.get(block + ".fc1.bias"), self.get(block + ".fc2.bias")
            part = self.activation(part if bias1 is None else part + bias1[e])
            part = part @ self.w[block + ".fc2"][e].reshape(-1, x.shape[-1])
            part = part if bias2 is None else part + bias2[e]
            y = y.index_add(0, token, part * probability[token, e, None])
        if self.get(block + ".shared.fc1") is not None:
            y = y + self.mlp(x, block + ".shared")
        return y.reshape(shape)

    def loss(self, words):
        words, targets = words[:, :-1], words[:, 1:]
        x = F.embedding(words, self.w["embedding.words"])
        positions = self.get("embedding.positions")
        if positions is not None:
            x = x + positions.reshape(-1, x.shape[-1])[: words.shape[1]]
        for layer in range(self.c["num_layers"]):
            block = f"layer-{layer}"
            x = x + self.attention(self.norm(x, block + ".norm1"), block)
            y = self.norm(x, block + ".norm2")
            x = x + (self.experts(y, block, layer) if block + ".gate" in self.w else self.mlp(y, block))
        head = self.get("head.words")
        logits = self.norm(x, "head.norm") @ (self.w["embedding.words"] if head is None else head).T
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


class Differences:
    def __init__(self):
        self.worst = {}

    def note(self, what, where, value):
        if value > self.worst.get(what, (-1.0,))[0] or value != value:
            self.worst[what] = (value, where)

    def report(self):
        bad = not self.worst
        for what, (value, where) in self.worst.items():
            wrong = not value <= TOLERANCE
            bad = bad or wrong
            print(f"{'WRONG' if wrong else 'ok   '} {what}: {value:.2e} at {where}")
        return bad


def read_params(folder, kind):
    files = sorted(f for f in os.listdir(folder) if f.startswith(kind + ".") and f.endswith(".npy"))
    return {f[len(kind) + 1 : -len(".npy")]: load(folder, f) for f in files}


def length(tensors):
    return sum(float((t * t).sum()) for t in tensors) ** 0.5


def check_step(sizes, routing, folder, differences):
    weights = {name: w.requires_grad_() for name, w in read_params(folder, "weight").items()}
    tied = "head.words" in weights and torch.equal(weights["head.words"], weights["embedding.words"])
    if tied:  # of several stages: both hold the same matrix and the sum of both gradients
        del weights["head.words"]
    loss = Model(sizes, routing, weights).loss(torch.from_numpy(
        numpy.load(os.path.join(folder, "words.npy")).astype(numpy.int64)))
    loss.backward()
    theirs = float(load(folder, "loss.npy"))
    differences.note("loss", folder, abs(theirs - float(loss)) / abs(float(loss)))
    whole = length(w.grad for w in weights.values())
    for name, theirs in read_params(folder, "gradient").items():
        ours = weights["embedding.words" if tied and name == "head.words" else name].grad
        least = max(length([ours]), LEAST_SHARE * whole)
        differences.note("gradient", f"{folder} {name}", length([ours - theirs]) / least)
    if sizes["clip_grad"] > 0:
        differences.note("norm", folder, abs(float(load(folder, "grad-norm.npy")) - whole) / whole)
    return weights


def check_update(sizes, optimizer, mine, weights, folder, differences):
    """One step of Adam on `mine` with the gradients just computed, against the next step's weights."""
    for name, parameter in mine.items():
        parameter.grad = weights[name].grad
    if sizes["clip_grad"] > 0:
        torch.nn.utils.clip_grad_norm_(list(mine.values()), sizes["clip_grad"])
    optimizer.step()
    if not os.path.isdir(folder):
        return
    for name, theirs in read_params(folder, "weight").items():
        if name in mine:
            ours = mine[name].detach()
            differences.note("weight", f"{folder} {name}", length([ours - theirs]) / max(length([ours]), 1e-12))


def main(dump):
    torch.set_num_threads(1)
    with open(os.path.join(dump, "model.json"), encoding="utf-8") as file:
        sizes = json.load(file)
    if sizes["dropout"]:
        print("dropout: the numbers are not in the dump")
        return 1
    path = os.path.join(dump, "routing.npy")
    routing = torch.from_numpy(numpy.load(path).astype(numpy.int64)) if os.path.exists(path) else None
    differences, mine, optimizer = Differences(), None, None
    for step in range(1, sizes["n_steps"] + 1):
        weights = check_step(sizes, routing, os.path.join(dump, f"step-{step}"), differences)
        if mine is None:
            mine = {n: w.detach().clone().requires_grad_() for n, w in weights.items()}
            optimizer = torch.optim.Adam(mine.values(), lr=1e-3, betas=(0.9, 0.95), eps=1e-5)
        check_update(sizes, optimizer, mine, weights, os.path.join(dump, f"step-{step + 1}"), differences)
    print(f"{dump}: {len(mine)} parameters, {sizes['n_steps']} steps, PyTorch {torch.__version__}")
    return differences.report()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
