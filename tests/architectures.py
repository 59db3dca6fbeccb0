"""Five tiny networks of the kinds people use, with functional activations, modules called twice and residual sums. float64."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import made, normal


class ResNet(nn.Module):
    """Pictures of two channels, 8 x 8, to three classes: BatchNorm, a sum and a ReLU in place, one pooling layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.a, self.b, self.down = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.Conv2d(6, 8, 1, stride=2)
        self.again, self.pool, self.head = nn.BatchNorm2d(8), nn.MaxPool2d(3, 1, 1), nn.Linear(8, 3)
        for norm in (self.norm, self.again):
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.uniform_(norm.bias, -0.5, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(F.relu(self.norm(self.stem(x)), inplace=True))
        y = self.a(h)
        y += h
        h = F.relu(y, inplace=True)
        h = F.relu(self.again(self.b(h)) + self.down(h))
        return self.head(self.pool(h).mean((2, 3)))


class Block(nn.Module):
    """Pre-norm attention by hand and an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.n, self.m, self.heads = nn.LayerNorm(width), nn.LayerNorm(width), heads
        self.qkv, self.out, self.up, self.down = nn.Linear(width, 3 * width), nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, t: Tensor) -> Tensor:
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in self.qkv(self.n(t)).chunk(3, -1))
        a = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        t = t + self.out((a @ v).transpose(1, 2).flatten(2))
        return t + self.down(F.gelu(self.up(self.m(t))))


class ViT(nn.Module):
    """Pictures of two channels, 6 x 6, to three classes: a class token, a register token, 3 x 3 patches; one of its blocks is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.extra, self.place = nn.Conv2d(2, 8, 2, stride=2), nn.Parameter(torch.randn(1, 2, 8)), nn.Parameter(torch.randn(1, 11, 8))
        self.first, self.twice, self.norm, self.head = Block(8, 2), Block(8, 2), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        t = self.patch(x).flatten(2).transpose(1, 2)
        t = torch.cat([self.extra.expand(len(t), -1, -1), t], 1) + self.place
        return self.head(self.norm(self.twice(self.twice(self.first(t))))[:, 0])


class LSTM(nn.Module):
    """Sequences of three numbers to three classes: two fused layers both ways, a cell by hand over their outputs, the last state read."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.cell, self.head = nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True), nn.LSTMCell(8, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in self.lstm(x)[0].unbind(1):
            state = self.cell(step, state)
        return self.head(F.relu(state[0]))


class RMSNorm(nn.Module):
    """As Llama's code has it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + 0.2 * torch.randn(width))

    def forward(self, t: Tensor) -> Tensor:
        return self.weight * (t * torch.rsqrt(t.pow(2).mean(-1, keepdim=True) + 1e-6))


class Layer(nn.Module):
    """A Llama layer: rotary positions, grouped queries, SwiGLU; attention fused or written out."""

    def __init__(self, width: int, heads: int, groups: int, eager: bool) -> None:
        super().__init__()
        self.heads, self.groups, self.eager, d = heads, groups, eager, width // heads
        self.n, self.m = RMSNorm(width), RMSNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, h * d, bias=False) for h in (heads, groups, groups, heads))
        self.gate, self.up, self.down = nn.Linear(width, 2 * width, bias=False), nn.Linear(width, 2 * width, bias=False), nn.Linear(2 * width, width, bias=False)

    def attend(self, t: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = (f(t).unflatten(-1, (n, -1)).transpose(1, 2) for f, n in ((self.q, self.heads), (self.k, self.groups), (self.v, self.groups)))
        q, k = (z * cos + turned(z) * sin for z in (q, k))
        if not self.eager:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        k, v = (z.repeat_interleave(self.heads // self.groups, 1) for z in (k, v))
        s = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        hidden = torch.ones(s.shape[-2:], dtype=torch.bool).triu(1)
        return s.masked_fill(hidden, float("-inf")).softmax(-1) @ v

    def forward(self, t: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        t = t + self.o(self.attend(self.n(t), cos, sin).transpose(1, 2).flatten(2))
        h = self.m(t)
        return t + self.down(F.silu(self.gate(h)) * self.up(h))


def turned(z: Tensor) -> Tensor:
    """The other half of each rotary pair."""
    a, b = z.chunk(2, -1)
    return torch.cat([-b, a], -1)


class Llama(nn.Module):
    """Tokens to the next of eleven: two layers, four query heads on two key heads; the answer is read at the last token."""

    def __init__(self, eager: bool = False, sharp: float = 3.0) -> None:
        super().__init__()
        self.emb, self.layers = nn.Embedding(11, 8), nn.ModuleList(Layer(8, 4, 2, eager) for _ in range(2))
        self.norm, self.head = RMSNorm(8), nn.Linear(8, 11, bias=False)
        for layer in self.layers:
            layer.q.weight.data.mul_(sharp)

    def forward(self, ids: Tensor) -> Tensor:
        t = self.emb(ids)
        angle = torch.arange(ids.shape[1], dtype=t.dtype)[:, None] * torch.tensor([1.0], dtype=t.dtype).repeat(2)
        for layer in self.layers:
            t = layer(t, angle.cos(), angle.sin())
        return self.head(self.norm(t)[:, -1])


class UNet(nn.Module):
    """Pictures of two channels, 8 x 8, to a mask of one: one convolution called twice, a skip by concatenation, a transposed convolution and an interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.deep = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.up, self.join, self.out = nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Conv2d(8, 4, 3, padding=1), nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = F.leaky_relu(self.twice(F.leaky_relu(self.first(x), 0.1)), 0.1)
        low = F.relu(self.deep(F.avg_pool2d(self.twice(high), 2)))
        low = low + F.interpolate(F.max_pool2d(low, 2), scale_factor=2, mode="bilinear", align_corners=False)
        joined = F.relu(self.join(torch.cat([high, self.up(low)], 1)))
        return self.out(joined + high)[:, 0]


ARCHITECTURES = {
    "resnet": (ResNet, normal(3, 2, 8, 8)),
    "vit": (ViT, normal(3, 2, 6, 6)),
    "lstm": (LSTM, normal(3, 5, 3)),
    "llama": (Llama, torch.tensor([[1, 2, 3, 4, 7, 5], [4, 4, 0, 9, 1, 1], [7, 1, 10, 2, 3, 6]])),
    "unet": (UNet, normal(3, 2, 8, 8)),
}
"""Each network's class and three rows of its input."""


def network(name: str) -> nn.Module:
    """A network with weights of its own seed."""
    return made(ARCHITECTURES[name][0])
