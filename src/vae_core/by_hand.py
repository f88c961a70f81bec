"""The loss of a plain VAE and its gradient, written out: what autograd would compute, faster.

This is the fast path of ``fit``. The readable one is ``VAE.loss_terms`` with ``backward``; a test
holds that both agree. Written out, a step needs no graph, keeps its memory from step to step, and
makes a third of autograd's passes over the pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vae_core.likelihoods import BernoulliLikelihood
from vae_core.posteriors import at_least_float32, diagonal_gaussian
from vae_core.seeds import standard_normal
from vae_core.vae import VAE, StandardNormal

__all__ = ["ByHand"]

# Types of weights that come with matrix products of a type.
EXACT = {torch.float32: ({torch.float32}, {torch.float64}), torch.bfloat16: ({torch.float32},)}
of_relu = torch.ops.aten.threshold_backward.grad_input  # (slope, what the ReLU gave, 0)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class ByHand:
    """Gradients of one model that ``fits`` is true of: what ``steps.Autograd`` gives, written out.

    It is given ``rows`` of the ``batch_size`` images that a mean is over; matrix products are
    computed in the type ``products``.
    """

    def __init__(self, model: VAE, rows: int, batch_size: int, products: torch.dtype):
        self.latent_dim, self.batch_size = model.latent_dim, batch_size
        for weights in model.parameters():
            weights.grad = torch.zeros_like(weights)
        self.encoder = Layers(model.encoder, rows, products)
        self.decoder = Layers(model.decoder, rows, products)
        like = next(model.parameters()).detach()
        self.ink = like.new_empty(rows, model.n_pixels)
        self.larger = torch.empty_like(self.ink)
        self.to_outputs = like.new_empty(rows, 2 * model.latent_dim)
        self.to_mean, self.to_log_var = self.to_outputs.chunk(2, dim=1)

    @staticmethod
    def fits(model: nn.Module, products: torch.dtype) -> bool:
        """True of a VAE of fully connected layers and ReLUs, of Bernoulli pixels, a diagonal
        Gaussian and N(0, I), that nobody has changed or listens to."""
        if type(model) is not VAE or vars(model).keys() & {"loss_terms", "encode", "decode"}:
            return False
        parts = [type(part) for part in (model.likelihood, model.prior)]
        if parts != [BernoulliLikelihood, StandardNormal]:
            return False
        if model.posterior is not diagonal_gaussian or not all(
            type(network) is nn.Sequential and _is_mlp(network)
            for network in (model.encoder, model.decoder)
        ):
            return False
        linears = [layer for layer in model.modules() if type(layer) is nn.Linear]
        sizes = linears[-1].out_features, model.encoder[-1].out_features
        weights = list(model.parameters())  # each once, even where layers share it
        return (
            sizes == (model.n_pixels, 2 * model.latent_dim)
            and len(weights) == 2 * len(linears)
            and {w.dtype for w in weights} in EXACT[products]
            and {w.device.type for w in weights} < {"cpu", "cuda"}
            and all(w.requires_grad and w.is_contiguous() for w in weights)
            and not any(w._backward_hooks or w._post_accumulate_grad_hooks for w in weights)
            and not any(getattr(m, hooks) for m in model.modules() for hooks in HOOKS)
        )

    @torch.no_grad()
    def __call__(self, batch: tuple[Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The means of both terms; their weighted gradient is in ``grad`` of every parameter.

        Shapes: ``batch`` has one part, ``x`` ``[rows, D]``.
        """
        (x,) = batch
        share = 1 / self.batch_size
        noise = standard_normal(x, 1, len(x), self.latent_dim)[0]
        mean, log_var = self.encoder.forward(x).chunk(2, dim=1)
        scale = torch.exp(0.5 * log_var)
        logits = self.decoder.forward(torch.addcmul(mean, scale, noise))

        # −log p(x|z) = max(a, 0) − x a − log sigmoid(|a|), summed. Logarithms are slow: the product
        # of 16 numbers between ½ and 1 has one, and as many digits.
        ink = torch.sigmoid(logits, out=self.ink)
        larger = torch.sub(1, ink, out=self.larger)
        larger = torch.maximum(ink, larger, out=larger).view(-1)  # sigmoid(|a|)
        whole = len(larger) - len(larger) % 16
        logs = larger[:whole].view(16, -1).prod(dim=0).log_().sum() + larger[whole:].log().sum()
        x_logits = torch.dot(x.view(-1), logits.view(-1))
        reconstruction = (logits.relu_().sum() - x_logits - logs) * share
        variance = scale.square()
        kl = (mean.square() + variance - 1 - log_var).sum() * (0.5 * share)

        weight = weights.get("reconstruction")
        to_logits = ink.sub_(x).mul_(share if weight is None else weight * share)
        to_z = self.decoder.backward(to_logits)
        weight = share if weights.get("KL") is None else weights["KL"] * share
        torch.add(to_z, mean * weight, out=self.to_mean)
        torch.mul(to_z * noise, scale, out=self.to_log_var)
        self.to_log_var.add_((variance - 1) * weight).mul_(0.5)
        self.encoder.backward(self.to_outputs, to_input=False)
        return {"reconstruction": reconstruction, "KL": kl}


class Layers:
    """Linear layers with ReLUs between them, forwards and backwards, in memory of their own."""

    def __init__(self, network: nn.Sequential, rows: int, products: torch.dtype):
        self.linears = [layer for layer in network if type(layer) is nn.Linear]
        like = self.linears[0].weight.detach()
        self.dtype = products if products is torch.bfloat16 else like.dtype
        self.exact = self.dtype == like.dtype

        def copies(tensors: list[Tensor]) -> list[Tensor]:
            """The tensors themselves, or memory for them in the type of the products."""
            return [t if self.exact else t.new_empty(t.shape, dtype=self.dtype) for t in tensors]

        self.weights = copies([linear.weight.detach() for linear in self.linears])
        self.transposed = [w.t() for w in self.weights]
        self.biases = copies([linear.bias.detach() for linear in self.linears])
        self.slopes = copies([linear.weight.grad for linear in self.linears])
        self.to_biases = [linear.bias.grad for linear in self.linears]
        of = {"device": like.device, "dtype": self.dtype}
        self.outputs = [torch.empty(rows, layer.out_features, **of) for layer in self.linears]
        self.to_inputs = [torch.empty(rows, layer.in_features, **of) for layer in self.linears]

    def forward(self, x: Tensor) -> Tensor:
        """What the network puts out, at least in float32."""
        self.inputs = []
        x = x.to(self.dtype)
        for i, linear in enumerate(self.linears):
            if not self.exact:
                self.weights[i].copy_(linear.weight)
                self.biases[i].copy_(linear.bias)
            self.inputs.append(x)
            x = torch.addmm(self.biases[i], x, self.transposed[i], out=self.outputs[i])
            if i < len(self.linears) - 1:
                x.relu_()
        return at_least_float32(x)

    def backward(self, slope: Tensor, to_input: bool = True) -> Tensor | None:
        """From the gradient of the outputs to that of weights and biases, and of the input."""
        slope = slope.to(self.dtype)
        for i in reversed(range(len(self.linears))):
            torch.mm(slope.t(), self.inputs[i], out=self.slopes[i])
            if not self.exact:
                self.linears[i].weight.grad.copy_(self.slopes[i])
            torch.sum(slope, dim=0, dtype=self.to_biases[i].dtype, out=self.to_biases[i])
            if i > 0 or to_input:
                slope = torch.mm(slope, self.weights[i], out=self.to_inputs[i])
            if i > 0:
                of_relu(slope, self.inputs[i], 0, grad_input=slope)
        return at_least_float32(slope) if to_input else None


def _is_mlp(network: nn.Sequential) -> bool:
    kinds = [type(layer) for layer in network]
    return (
        len(kinds) % 2 == 1
        and set(kinds[::2]) == {nn.Linear}
        and set(kinds[1::2]) <= {nn.ReLU}
        and all(layer.bias is not None for layer in network[::2])
    )
