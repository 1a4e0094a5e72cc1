"""Programs for recurrent nets as PyTorch's users write them: only the import lines are not theirs.

Each leaves `losses`, and what else is to be equal in `results`.
"""

from __future__ import annotations

SCRIPTS: dict[str, str] = {}

SCRIPTS["a character model: embedding, LSTM, clipping, sampling"] = """
text = "the quick brown fox jumps over the lazy dog. " * 6
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text], dtype=torch.long)
V = len(chars)


class CharLSTM(nn.Module):
    def __init__(self, vocab, emb=8, hidden=16, layers=2):
        super().__init__()
        self.emb = nn.Embedding(vocab, emb)
        self.lstm = nn.LSTM(emb, hidden, num_layers=layers, batch_first=True)
        self.head = nn.Linear(hidden, vocab)

    def forward(self, x, state=None):
        out, state = self.lstm(self.emb(x), state)
        return self.head(out), state


def get_batch(i, T=12, B=4):
    ix = [(i * 7 + 31 * b) % (len(data) - T - 1) for b in range(B)]
    x = torch.stack([data[j:j + T] for j in ix])
    y = torch.stack([data[j + 1:j + T + 1] for j in ix])
    return x, y


model = prepare(CharLSTM(V))
opt = torch.optim.AdamW(model.parameters(), lr=3e-2)
for step in range(12):
    x, y = get_batch(step)
    logits, _ = model(x)
    B, T, C = logits.shape
    loss = F.cross_entropy(logits.view(B * T, C), y.view(B * T))
    opt.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    losses.append(loss.item())
results.append(float(norm))

model.eval()
with torch.no_grad():
    idx, state, out = torch.zeros((1, 1), dtype=torch.long), None, []
    for _ in range(20):
        logits, state = model(idx, state)
        probs = torch.softmax(logits[:, -1, :] / 0.8, dim=-1)
        assert torch.multinomial(probs, num_samples=1).shape == (1, 1)
        idx = probs.argmax(dim=-1, keepdim=True)
        out.append(idx.item())
results.append(''.join(chars[i] for i in out))
results.append(sum(p.numel() for p in model.parameters() if p.requires_grad))
"""

SCRIPTS["a classifier of sequences of different lengths"] = """
from {library}.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

sequences = [torch.tensor([(3 * i + j) % 9 + 1 for j in range(n)])
             for i, n in enumerate([5, 2, 7, 3])]
labels = torch.tensor([0, 1, 1, 0])


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 6, padding_idx=0)
        self.rnn = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(2 * 5, 2)

    def forward(self, padded, lengths):
        packed = pack_padded_sequence(
            self.embed(padded), lengths, batch_first=True, enforce_sorted=False)
        output, (h, c) = self.rnn(packed)
        unpacked, out_lengths = pad_packed_sequence(output, batch_first=True)
        assert torch.equal(out_lengths, lengths)
        last = torch.cat((h[-2], h[-1]), dim=1)
        mean = unpacked.sum(1) / lengths.unsqueeze(1)
        return self.fc(self.drop(last + mean))


model = prepare(Classifier()).eval()
padded = pad_sequence(sequences, batch_first=True)
lengths = torch.tensor([len(s) for s in sequences])
criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]), label_smoothing=0.05)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, nesterov=True)
for epoch in range(10):
    optimizer.zero_grad()
    logits = model(padded, lengths)
    loss = criterion(logits, labels)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
accuracy = (logits.argmax(1) == labels).float().mean().item()
results += [accuracy, model.embed.weight[0].abs().sum().item(), model.embed.weight.grad[0].tolist()]
"""

SCRIPTS["a bidirectional tagger with masks"] = """
class Tagger(nn.Module):
    def __init__(self, vocab_size, tagset_size):
        super(Tagger, self).__init__()
        self.word_embeddings = nn.Embedding(vocab_size, 6)
        self.gru = nn.GRU(6, 4, num_layers=2, bidirectional=True)
        self.hidden2tag = nn.Linear(8, tagset_size)

    def forward(self, sentence):
        embeds = self.word_embeddings(sentence)
        out, _ = self.gru(embeds.view(len(sentence), 1, -1))
        return F.log_softmax(self.hidden2tag(out.view(len(sentence), -1)), dim=1)


training = [("the dog ate the apple".split(), "D N V D N".split()),
            ("everybody read that book".split(), "N V D N".split())]
word_to_ix, tag_to_ix = {}, {"D": 0, "N": 1, "V": 2}
for sentence, _ in training:
    for word in sentence:
        word_to_ix.setdefault(word, len(word_to_ix))
model = prepare(Tagger(len(word_to_ix), len(tag_to_ix)))
loss_function = nn.NLLLoss()
optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
for epoch in range(6):
    for sentence, tags in training:
        model.zero_grad()
        inputs = torch.tensor([word_to_ix[w] for w in sentence], dtype=torch.long)
        targets = torch.tensor([tag_to_ix[t] for t in tags], dtype=torch.long)
        scores = model(inputs)
        mask = targets != 2
        loss = loss_function(scores, targets) + 0.1 * (scores[mask] ** 2).mean()
        loss = loss + torch.where(mask[:, None], scores, torch.zeros_like(scores)).sum() * 0.01
        loss = loss - scores.masked_fill(mask.unsqueeze(1), 0.0).sum() * 0.02
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
results.append(scores.max(1)[1].tolist())
"""

SCRIPTS["sequence to sequence: LSTMCell, teacher forcing, attention"] = """
class Seq2Seq(nn.Module):
    def __init__(self, vocab=7, hidden=6):
        super().__init__()
        self.hidden = hidden
        self.embedding = nn.Embedding(vocab, hidden)
        self.encoder = nn.GRU(hidden, hidden)
        self.cell = nn.LSTMCell(hidden, hidden)
        self.attn = nn.Linear(2 * hidden, hidden, bias=False)
        self.out = nn.Linear(hidden, vocab)

    def forward(self, src, tgt, teacher_forcing):
        B = src.size(1)
        memory, h = self.encoder(self.embedding(src))       # (T, B, H)
        hx, cx = h[0], torch.zeros_like(h[0])
        token = torch.zeros(B, dtype=torch.long)
        outputs = []
        for t in range(tgt.size(0)):
            hx, cx = self.cell(self.embedding(token), (hx, cx))
            weights = torch.softmax(torch.einsum('tbh,bh->bt', memory, hx), dim=1)
            context = torch.bmm(weights.unsqueeze(1), memory.transpose(0, 1)).squeeze(1)
            hx = torch.tanh(self.attn(torch.cat([context, hx], dim=-1)))
            logits = self.out(hx)
            outputs.append(logits)
            token = tgt[t] if teacher_forcing[t] else logits.detach().argmax(-1)
        return torch.stack(outputs)


model = prepare(Seq2Seq())
opt = torch.optim.Adam(model.parameters(), lr=0.02, betas=(0.9, 0.98), eps=1e-9)
src = torch.arange(1, 11).view(5, 2) % 7
tgt = src.flip(0)
criterion = nn.CrossEntropyLoss(ignore_index=0, reduction='sum')
for step in range(8):
    out = model(src, tgt, [True, step % 2 == 0, True, False, True])
    loss = criterion(out.reshape(-1, out.size(-1)), tgt.reshape(-1)) / (tgt != 0).sum()
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_value_(model.parameters(), 0.3)
    opt.step()
    losses.append(loss.item())
results.append(out.argmax(-1).tolist())
"""

SCRIPTS["a forecaster: windows, scheduler on the plateau, accumulation"] = """
import math
series = torch.tensor([math.sin(0.4 * t) + 0.02 * t for t in range(60)])
mean, std = series.mean(), series.std()
series = (series - mean) / std
W = 8
X = torch.stack([series[i:i + W] for i in range(len(series) - W)]).unsqueeze(-1)
Y = series[W:].unsqueeze(1)
Xtr, Ytr, Xva, Yva = X[:40], Y[:40], X[40:], Y[40:]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(input_size=1, hidden_size=8, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, x):
        h0 = torch.zeros(1, x.size(0), 8)
        c0 = torch.zeros(1, x.size(0), 8)
        out, _ = self.lstm(x, (h0, c0))
        return self.fc(self.norm(out[:, -1, :]))


model = prepare(Net())
optimizer = torch.optim.Adam(model.parameters(), lr=0.05, weight_decay=1e-4)
from {library}.optim.lr_scheduler import ReduceLROnPlateau
scheduler = ReduceLROnPlateau(optimizer, mode='min', factor=0.5, patience=0)
criterion = nn.HuberLoss(delta=0.5)
order = torch.arange(40).view(2, 20).t().reshape(-1)
assert torch.randperm(40).sort().values.equal(order.sort().values)
best, best_state = float('inf'), None
for epoch in range(6):
    model.train()
    optimizer.zero_grad()
    for k, i in enumerate(range(0, 40, 8)):
        index = order[i:i + 8]
        loss = criterion(model(Xtr[index]), Ytr[index]) / 2
        loss.backward()
        losses.append(loss.item())
        if (k + 1) % 2 == 0 or i + 8 >= 40:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.5)
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        val = F.mse_loss(model(Xva), Yva)
    scheduler.step(val)
    if val.item() < best:
        best = val.item()
        best_state = {k: v.clone() for k, v in model.state_dict().items()}
    results.append(optimizer.param_groups[0]['lr'])
model.load_state_dict(best_state)
with torch.no_grad():
    window, forecast = Xva[:1].clone(), []
    for _ in range(5):
        y = model(window)
        forecast.append(y.item())
        window = torch.cat([window[:, 1:], y.view(1, 1, 1)], dim=1)
results += [best, forecast]
"""

SCRIPTS["tied weights, frozen layers, parameter groups, apply"] = """
class Tied(nn.Module):
    def __init__(self, V=9, H=6):
        super().__init__()
        self.encoder = nn.Embedding(V, H)
        self.rnn = nn.RNN(H, H, nonlinearity='relu')
        self.decoder = nn.Linear(H, V)
        self.decoder.weight = self.encoder.weight
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer('steps', torch.zeros(1, dtype=torch.long))

    def forward(self, x, h):
        self.steps += 1
        out, h = self.rnn(self.encoder(x), h)
        return self.decoder(out) * self.scale, h


def init_weights(m):
    if isinstance(m, nn.Linear):
        nn.init.zeros_(m.bias)
    elif type(m) == nn.RNN:
        for name, param in m.named_parameters():
            if 'weight_hh' in name:
                nn.init.eye_(param)
            elif 'bias' in name:
                nn.init.constant_(param, 0.0)


model = prepare(Tied())
model.apply(init_weights)
for name, p in model.named_parameters():
    if name.endswith('bias_ih_l0'):
        p.requires_grad_(False)
decay = [p for n, p in model.named_parameters() if p.requires_grad and p.dim() > 1]
rest = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
opt = torch.optim.SGD([dict(params=decay, weight_decay=0.01), dict(params=rest, lr=0.5)], lr=0.8)
sched = torch.optim.lr_scheduler.StepLR(opt, step_size=3, gamma=0.5)
x = torch.arange(12).reshape(6, 2) % 9
y = (x + 1) % 9
h = torch.zeros(1, 2, 6)
for step in range(8):
    h = h.detach()
    logits, h = model(x, h)
    loss = F.cross_entropy(logits.permute(1, 2, 0), y.T)
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    losses.append(loss.item())
assert model.decoder.weight is model.encoder.weight
results += [model.steps.item(), sorted(model.state_dict().keys()), len(list(model.parameters()))]
results += [model.rnn.bias_ih_l0.grad is None, opt.param_groups[1]['lr'], model.scale.item()]
"""

SCRIPTS["truncated backpropagation through time, with detach_"] = """
cell = prepare(nn.GRUCell(3, 4))
readout = prepare(nn.Linear(4, 1))
params = list(cell.parameters()) + list(readout.parameters())
opt = torch.optim.Adagrad(params, lr=0.1)
stream = torch.linspace(-1, 1, 60).view(20, 1, 3)
h = torch.zeros(1, 4)
loss = 0
for t in range(20):
    h = cell(stream[t], h)
    loss = loss + F.mse_loss(readout(h), stream[t].mean().view(1, 1))
    if (t + 1) % 5 == 0:
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(float(loss))
        h.detach_()
        loss = 0
"""

SCRIPTS["two losses, retain_graph, retain_grad, hooks"] = """
net = prepare(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)))
x = torch.arange(6.0).view(2, 3).requires_grad_()
hidden = net[1](net[0](x))
hidden.retain_grad()
norms = []
handle = hidden.register_hook(lambda grad: norms.append(grad.norm().item()))
out = net[2](hidden)
loss1, loss2 = out[:, 0].pow(2).sum(), (out[:, 1] - 1).abs().sum()
loss1.backward(retain_graph=True)
first = x.grad.clone()
loss2.backward()
handle.remove()
results += [first.tolist(), x.grad.tolist(), hidden.grad.tolist(), norms]
losses += [loss1.item(), loss2.item()]
seen = []
h1 = net[0].register_forward_hook(lambda m, i, o: seen.append((type(m).__name__, tuple(o.shape))))
net(x)
h1.remove()
net(x)
results.append(seen)
"""

SCRIPTS["a function of one's own"] = """
class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, beta):
        s = torch.sigmoid(beta * x)
        ctx.save_for_backward(x, s)
        ctx.beta = beta
        return x * s

    @staticmethod
    def backward(ctx, grad_output):
        x, s = ctx.saved_tensors
        return grad_output * (s + ctx.beta * x * s * (1 - s)), None


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return (x > 0).float()

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output.clamp(-1, 1)


lin = prepare(nn.Linear(3, 3))
x = torch.tensor([[1.0, -2.0, 0.5]], requires_grad=True)
loss = Swish.apply(lin(x), 1.5).sum() + (StraightThrough.apply(lin(x)) * 3).sum()
loss.backward()
losses.append(loss.item())
results += [x.grad.tolist(), lin.weight.grad.tolist()]
wide = x.detach().double().requires_grad_()
results.append(torch.autograd.gradcheck(lambda a: Swish.apply(a, 2.0), (wide,)))
"""

SCRIPTS["second order: MAML, gradient penalty, Hessian-vector products"] = """
model = prepare(nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1)))
meta = torch.optim.SGD(model.parameters(), lr=0.05)
xs = torch.linspace(-1, 1, 12).view(6, 2)


def forward(params, x):
    w1, b1, w2, b2 = params
    return F.linear(torch.tanh(F.linear(x, w1, b1)), w2, b2)


for step in range(4):
    meta.zero_grad()
    total = 0.0
    for task in (1.0, -2.0):
        y = xs.sum(1, keepdim=True) * task
        params = list(model.parameters())
        for inner in range(2):
            inner_loss = F.mse_loss(forward(params, xs[:3]), y[:3])
            grads = torch.autograd.grad(inner_loss, params, create_graph=True)
            params = [p - 0.1 * g for p, g in zip(params, grads)]
        outer = F.mse_loss(forward(params, xs[3:]), y[3:])
        outer.backward()
        total += outer.item()
    meta.step()
    losses.append(total)

x = xs.clone().requires_grad_(True)
out = model(x)
grads = torch.autograd.grad(outputs=out, inputs=x, grad_outputs=torch.ones_like(out),
                            create_graph=True, retain_graph=True, only_inputs=True)[0]
penalty = ((grads.norm(2, dim=1) - 1) ** 2).mean()
model.zero_grad()
(out.mean() + 10 * penalty).backward()
results += [penalty.item(), [p.grad.tolist() for p in model.parameters() if p.grad is not None]]

w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
f = (w ** 3).sum() * w.prod()
(g,) = torch.autograd.grad(f, w, create_graph=True)
v = torch.tensor([1.0, 0.0, -1.0])
(hv,) = torch.autograd.grad((g * v).sum(), w)
H = torch.autograd.functional.hessian(lambda a: (a ** 3).sum() * a.prod(), w.detach())
results += [hv.tolist(), H.tolist()]
"""

SCRIPTS["averages of weights, deep copies, saving"] = """
import copy, os, tempfile
model = prepare(nn.LSTM(2, 3, num_layers=2, dropout=0.0))
ema = copy.deepcopy(model)
for p in ema.parameters():
    p.requires_grad_(False)
opt = torch.optim.Adam(model.parameters(), lr=0.01)
x = torch.linspace(-1, 1, 20).view(5, 2, 2)
for step in range(5):
    out, (h, c) = model(x)
    loss = (out ** 2).mean() + h.abs().mean() + (c - 1).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    losses.append(loss.item())
    with torch.no_grad():
        for e, p in zip(ema.parameters(), model.parameters()):
            e.mul_(0.9).add_(p, alpha=0.1)
        msd = model.state_dict()
        for k, v in ema.state_dict().items():
            v.copy_(v * 0.99 + 0.01 * msd[k])
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'model.pt')
    torch.save({'model': model.state_dict(), 'opt': opt.state_dict(), 'epoch': 5}, path)
    checkpoint = torch.load(path, map_location='cpu')
    torch.save(model.state_dict(), path)
    again = nn.LSTM(2, 3, num_layers=2)
    again.load_state_dict(torch.load(path))
opt2 = torch.optim.Adam(again.parameters(), lr=0.5)
opt2.load_state_dict(checkpoint['opt'])
for m, o in ((model, opt), (again, opt2)):
    loss = m(x)[0].sum()
    o.zero_grad()
    loss.backward()
    o.step()
results.append(all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters())))
results += [ema(x)[0].tolist(), checkpoint['epoch'], opt2.param_groups[0]['lr']]
"""

SCRIPTS["min-char-rnn by hand"] = """
import numpy as np
data = 'hello world, hello there. '
chars = sorted(set(data))
V, H = len(chars), 10
ix = {c: i for i, c in enumerate(chars)}
source = prepare(nn.RNN(V, H))
Wxh = source.weight_ih_l0.detach().T.clone().requires_grad_(True)
Whh = source.weight_hh_l0.detach().clone().requires_grad_(True)
Why = (torch.ones(H, V) * 0.01).requires_grad_()
bh, by = torch.zeros(1, H, requires_grad=True), torch.zeros(1, V, requires_grad=True)
params = [Wxh, Whh, Why, bh, by]
mem = [torch.zeros_like(p) for p in params]
hprev = torch.zeros(1, H)
smooth = -np.log(1.0 / V) * 8
for n in range(12):
    p = (n * 8) % (len(data) - 9)
    inputs, targets = [ix[c] for c in data[p:p + 8]], [ix[c] for c in data[p + 1:p + 9]]
    h, loss = hprev, 0
    for i, t in zip(inputs, targets):
        x = F.one_hot(torch.tensor([i]), V).float()
        h = torch.tanh(x @ Wxh + h @ Whh.t() + bh)
        y = h @ Why + by
        loss -= torch.log_softmax(y, 1)[0, t]
    hprev = h.detach()
    loss.backward()
    with torch.no_grad():
        for param, m in zip(params, mem):
            g = param.grad.clamp_(-5, 5)
            m += g * g
            param -= 0.1 * g / torch.sqrt(m + 1e-8)
            param.grad.zero_()
    smooth = smooth * 0.999 + loss.item() * 0.001
    losses.append(loss.item())
results.append(smooth)
"""

SCRIPTS["containers, half a net in float64, a Module in a Module"] = """
class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.fc = nn.Linear(d, d)
        self.act = nn.Sigmoid()

    def forward(self, x):
        return x + self.act(self.fc(x))

    def extra_repr(self):
        return 'residual'


class Net(nn.Module):
    def __init__(self, d=4, depth=3):
        super().__init__()
        self.blocks = nn.ModuleList([Block(d) for _ in range(depth)])
        self.heads = nn.ModuleDict({'mean': nn.Linear(d, 1), 'logvar': nn.Linear(d, 1)})

    def forward(self, x):
        for i, block in enumerate(self.blocks):
            x = block(x) if i % 2 == 0 else F.relu(block(x))
        return self.heads['mean'](x), self.heads['logvar'](x)


net = prepare(Net()).double()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
lam = torch.optim.lr_scheduler.LambdaLR(opt, lambda epoch: 0.9 ** epoch)
x = torch.linspace(0, 1, 20, dtype=torch.float64).reshape(5, 4)
t = x.sum(-1, keepdim=True)
for epoch in range(5):
    def closure():
        opt.zero_grad()
        mean, logvar = net(x)
        loss = (0.5 * (logvar + (t - mean) ** 2 / logvar.exp())).mean()
        loss.backward()
        return loss
    losses.append(opt.step(closure).item())
    lam.step()
results += [repr(net), [n for n, _ in net.named_modules()], lam.get_last_lr()]
results += [str(next(net.parameters()).dtype).split('.')[-1], len(net.blocks), 'mean' in net.heads]
flat = nn.utils.parameters_to_vector(net.parameters())
nn.utils.vector_to_parameters(flat * 2, net.parameters())
results += [flat.shape[0], net(x)[0].tolist()]
"""

SCRIPTS["weights set by hand: gate biases, parts of parameters"] = """
class Net(nn.Module):
    def __init__(self, H=4):
        super().__init__()
        self.lstm = nn.LSTM(3, H, num_layers=2)
        self.gru = nn.GRU(H, H)
        self.fc = nn.Linear(H, 1)
        self.reset_parameters()

    def reset_parameters(self):
        for names in self.lstm._all_weights:
            for name in filter(lambda n: 'bias' in n, names):
                bias = getattr(self.lstm, name)
                n = bias.size(0)
                bias.data[n // 4:n // 2].fill_(1.)
        for name, param in self.gru.named_parameters():
            if 'weight_hh' in name:
                for gate in param.data.chunk(3):
                    nn.init.eye_(gate)
            elif 'weight_ih' in name:
                param.data.mul_(0.5)
            else:
                with torch.no_grad():
                    param.zero_()
                    param[:2] = 0.5
                    param[2:4].fill_(-0.5)
        self.fc.weight.data.fill_(0.1)
        self.fc.bias.data.zero_()

    def forward(self, x):
        return self.fc(self.gru(self.lstm(x)[0])[0])


net = prepare(Net())
net.reset_parameters()
state = net.state_dict()
state['fc.bias'].copy_(torch.tensor([0.25]))
state['fc.weight'][0, :2] = 0.3
opt = torch.optim.Adam(net.parameters())
x = torch.linspace(-1, 1, 30).reshape(5, 2, 3)
for step in range(5):
    loss = net(x).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    losses.append(loss.item())
results += [net.fc.bias.tolist(), net.fc.weight.tolist(), net.lstm.bias_ih_l1.tolist()]
results += [net.gru.bias_hh_l0.tolist(), net.gru.weight_hh_l0.tolist()]
"""
