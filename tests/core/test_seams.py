"""Every part of a VAE passed in: networks, posteriors, priors, a condition; and data of another
kind. Terms, training and estimates against quadrature, closed forms and loops by hand."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
)
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from small import FullGaussian, grey, random_numbers, small_images, with_random_weights
from vae_book.figures import tile
from vae_core import (
    VAE,
    active_units,
    elbo_terms,
    estimate_elbo,
    estimate_information,
    estimate_log_likelihood,
    fit,
    log_evidence_2d,
    mean_terms,
    mlp,
)
from vae_core import vae as vae_module
from vae_core.posteriors import diagonal_gaussian

D, N = 16, 6  # pixels, images
IMAGES = small_images(N, seed=3)
LABELS = torch.tensor([0, 2, 1, 1, 0, 2])
FIXED = {"binarisation": "fixed"}


# The parts, as one writes them


def full_covariance(outputs: torch.Tensor) -> FullGaussian:
    """N(μ, L Lᵀ) from two means, two logarithms on L's diagonal, and what is below it."""
    mean, log_diagonal, below = outputs.split([2, 2, 1], dim=1)
    lower = log_diagonal.exp().diag_embed() + nn.functional.pad(below[..., None], (0, 1, 1, 0))
    return FullGaussian(mean, scale_tril=lower)


class Flow(Distribution):
    """z₁ = u₁ and z₂ = u₂ exp(s(u₁)) + t(u₁), with u from another distribution."""

    def __init__(self, base: Distribution, s_and_t: nn.Module):
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)
        self.base, self.s_and_t = base, s_and_t

    def from_noise(self, noise):
        first, second = self.base.from_noise(noise).chunk(2, dim=-1)
        s, t = self.s_and_t(first).chunk(2, dim=-1)
        return torch.cat([first, second * s.exp() + t], dim=-1)

    def log_prob(self, z):
        first, second = z.chunk(2, dim=-1)
        s, t = self.s_and_t(first).chunk(2, dim=-1)
        u = torch.cat([first, (second - t) * (-s).exp()], dim=-1)
        return self.base.log_prob(u) - s[..., 0]


class FlowPosterior(nn.Module):
    def __init__(self):
        super().__init__()
        self.s_and_t = mlp(1, 4, 2)

    def forward(self, outputs):
        return Flow(diagonal_gaussian(outputs), self.s_and_t)


class FlowPrior(nn.Module):
    def __init__(self):
        super().__init__()
        self.s_and_t = mlp(1, 4, 2)

    def forward(self):
        zeros = next(self.parameters()).new_zeros(2)
        return Flow(Independent(Normal(zeros, 1.0), 1), self.s_and_t)


class LearnedPrior(nn.Module):
    def __init__(self):
        super().__init__()
        self.moments = nn.Parameter(torch.zeros(4))

    def forward(self):
        return diagonal_gaussian(self.moments)


class MixturePrior(nn.Module):
    def __init__(self):
        super().__init__()
        self.means = nn.Parameter(torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]]))
        self.logits = nn.Parameter(torch.zeros(3))

    def forward(self):
        bumps = Independent(Normal(self.means, 0.8), 1)
        return MixtureSameFamily(Categorical(logits=self.logits), bumps)


class WithLabel(nn.Module):
    """A network of two inputs: rows, and the label of each."""

    def __init__(self, *sizes: int):
        super().__init__()
        self.network = mlp(sizes[0] + 3, *sizes[1:])

    def forward(self, rows, label):
        return self.network(torch.cat([rows, one_hot(label, 3).to(rows)], dim=1))


class LabelledPrior(nn.Module):
    """p(z|y), a Gaussian around a place for each label."""

    def __init__(self):
        super().__init__()
        self.means = nn.Parameter(torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.5]]))

    def forward(self, label):
        return diagonal_gaussian(torch.cat([self.means, torch.zeros_like(self.means)], 1)[label])


def convolutional() -> VAE:
    encoder = nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(2, 12), nn.Unflatten(1, (3, 2, 2)),
        nn.ConvTranspose2d(3, 1, 4, stride=2, padding=1), nn.Flatten(),
    )  # fmt: skip
    return VAE(2, n_pixels=D, encoder=encoder, decoder=decoder)


KINDS = {
    "plain": lambda: VAE(2, (5,), D),
    "convolutional": convolutional,
    "full covariance": lambda: VAE(2, (5,), D, encoder=mlp(D, 5, 5), posterior=full_covariance),
    "flow posterior": lambda: VAE(2, (5,), D, posterior=FlowPosterior()),
    "learned prior": lambda: VAE(2, (5,), D, prior=LearnedPrior()),
    "mixture prior": lambda: VAE(2, (5,), D, prior=MixturePrior()),
    "flow prior": lambda: VAE(2, (5,), D, prior=FlowPrior()),
    "both flows": lambda: VAE(2, (5,), D, posterior=FlowPosterior(), prior=FlowPrior()),
    "labelled": lambda: VAE(
        2, n_pixels=D, encoder=WithLabel(D, 5, 4), decoder=WithLabel(2, 5, D), prior=LabelledPrior()
    ),
}
SAMPLED = {"flow posterior", "mixture prior", "flow prior", "both flows"}


def built(kind: str) -> tuple[VAE, tuple[torch.Tensor, ...]]:
    """A model with random weights, and what goes with the images: labels or nothing."""
    torch.manual_seed(0)
    model = with_random_weights(KINDS[kind](), size=0.5)
    with torch.no_grad():
        for weights in model.encoder.parameters():
            weights *= 0.4  # q(z|x) stays within the reach of the grid
    return model, (LABELS,) if kind == "labelled" else ()


# The truth, with densities that have nothing to do with ours

axis = torch.linspace(-9, 9, 181, dtype=torch.float64)
GRID = torch.cartesian_prod(axis, axis)
CELL = math.log(0.1**2)


def log_normal(z, mean, variance):
    """Of independent units, summed over them."""
    distance = (z - mean) ** 2 / variance
    return -0.5 * (distance + variance.log() + math.log(2 * math.pi)).sum(dim=-1)


def log_flow(z, s_and_t, mean, variance):
    """By the change of variables: the density of u, times |du/dz| = exp(−s)."""
    s, t = s_and_t(z[..., :1]).unbind(dim=-1)
    u = torch.stack([z[..., 0], (z[..., 1] - t) / s.exp()], dim=-1)
    return log_normal(u, mean, variance) - s


def log_densities(kind: str, model: VAE, codes=GRID) -> tuple[torch.Tensor, ...]:
    """log q(z|x), log p(z) and log p(x|z), each ``[codes, N]``, of every code for every image."""
    x, zero, one = IMAGES.flatten(1).double() / 255, torch.zeros(2).double(), torch.ones(2).double()
    label = one_hot(LABELS, 3).double()
    q, p, images = [], [], []
    for i in range(N):
        if kind == "labelled":
            outputs = model.encoder.network(torch.cat([x[i], label[i]]))
            with_label = torch.cat([codes, label[i].expand(len(codes), 3)], dim=1)
            logits = model.decoder.network(with_label)
            p.append(log_normal(codes, model.prior.means[LABELS[i]], one))
        else:
            outputs, logits = model.encoder(x[i : i + 1])[0], model.decoder(codes)
        mean, rest = outputs[:2], outputs[2:]
        if kind == "full covariance":
            lower = torch.stack(
                [torch.stack([rest[0].exp(), zero[0]]), torch.stack([rest[2], rest[1].exp()])]
            )
            q.append(MultivariateNormal(mean, lower @ lower.T).log_prob(codes))
        elif kind in ("flow posterior", "both flows"):
            q.append(log_flow(codes, model.posterior.s_and_t, mean, rest.exp()))
        else:
            q.append(log_normal(codes, mean, rest.exp()))
        images.append(
            -binary_cross_entropy_with_logits(
                logits, x[i].expand(len(codes), D), reduction="none"
            ).sum(1)
        )
        if kind == "mixture prior":
            bumps = [log_normal(codes, mean, 0.64 * one).exp() for mean in model.prior.means]
            weights = model.prior.logits.exp() / model.prior.logits.exp().sum()
            p.append(sum(w * bump for w, bump in zip(weights, bumps, strict=True)).log())
        elif kind in ("flow prior", "both flows"):
            p.append(log_flow(codes, model.prior.s_and_t, zero, one))
        elif kind == "learned prior":
            p.append(log_normal(codes, model.prior.moments[:2], model.prior.moments[2:].exp()))
        elif kind != "labelled":
            p.append(log_normal(codes, zero, one))
    return tuple(torch.stack(of, dim=1).detach() for of in (q, p, images))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def test_the_densities_of_the_truth_are_densities(kind):
    q, p, _ = log_densities(kind, built(kind)[0])
    for density in (q, p):
        torch.testing.assert_close(
            density.logsumexp(dim=0) + CELL, torch.zeros(N).double(), rtol=0, atol=1e-5
        )


def test_terms(kind):
    """Each at the codes that the noise gives, looked up in nothing but the networks."""
    model, given = built(kind)
    x, noise = IMAGES.flatten(1).double() / 255, random_numbers(2, N, 2)
    terms = elbo_terms(model, x, *given, noise=noise)
    for sample in range(2):  # here the codes of all images, each of which has its own
        q, p, images = (of.diagonal() for of in log_densities(kind, model, terms.z[sample]))
        torch.testing.assert_close(terms.log_q[sample], q)
        torch.testing.assert_close(terms.sampled_kl[sample], q - p)
        torch.testing.assert_close(terms.log_likelihood[sample], images)
        torch.testing.assert_close(terms.log_weights[sample], images + p - q)
    assert (terms.closed_kl is None) == (kind in SAMPLED)


def test_estimates(kind):
    """All of them, against sums over a grid of codes."""
    model, given = built(kind)
    q, p, images = log_densities(kind, model)
    share = (q + CELL).exp()  # of each cell of the grid in q(z|x)
    rate = (share * (q - p)).sum(dim=0)
    log_likelihood = (share * images).sum(dim=0)
    evidence = (p + images).logsumexp(dim=0) + CELL

    elbo = estimate_elbo(model, IMAGES, *given, n_samples=2000, **FIXED)
    for estimate, truth in (
        (elbo.elbo, log_likelihood - rate), (elbo.log_likelihood, log_likelihood), (elbo.kl, rate),
    ):  # fmt: skip
        assert abs(estimate.value - truth.mean()) < 5 * estimate.error + 1e-4
        assert estimate.error < 0.05
    assert ("from samples" in elbo.kl.quantity) == (elbo.kl.error > 0) == (kind in SAMPLED)

    exact = log_evidence_2d(model, IMAGES, *given, points=181, extent=9.0, **FIXED)
    torch.testing.assert_close(exact.per_image, evidence, rtol=0, atol=1e-4)
    weighted = estimate_log_likelihood(model, IMAGES, *given, k=4000, **FIXED)
    assert abs(weighted.value - evidence.mean()) < 5 * weighted.error < 0.15

    everyone = LABELS if kind == "labelled" else torch.zeros(N)
    same = (everyone[:, None] == everyone).double()
    q_z = (q[:, :, None] + same.log()).logsumexp(dim=1) - same.sum(dim=1).log()  # (codes, N)
    information = estimate_information(model, IMAGES, *given, n_samples=4000, **FIXED)
    for estimate, truth in (
        (information.mutual_information, (share * (q - q_z)).sum(dim=0)),
        (information.marginal_kl, (share * (q_z - p)).sum(dim=0)),
        (information.mean_kl, rate),
    ):
        assert abs(estimate.value - truth.mean()) < 5 * estimate.error + 1e-4
        assert estimate.error < 0.03
    assert information.ceiling == pytest.approx(same.sum(dim=1).log().mean().item())


def test_fit(kind):
    """Two steps are those of a loop by hand; many make the evidence larger, by quadrature."""
    torch.manual_seed(0)
    model = KINDS[kind]()
    given = (LABELS,) if kind == "labelled" else ()
    by_hand = copy.deepcopy(model)
    val = (IMAGES, *given) if given else IMAGES
    history = fit(model, IMAGES, *given, val=val, steps=2, batch_size=4, seed=5, device="cpu")

    order, optimiser = torch.Generator().manual_seed(5), torch.optim.Adam(by_hand.parameters())
    torch.manual_seed(int(np.random.SeedSequence((5, 1)).generate_state(1)[0]))
    name = "KL from samples" if kind in SAMPLED else "KL"
    for step in range(2):
        batch = torch.randperm(N, generator=order)[:4]
        terms = elbo_terms(by_hand, IMAGES[batch].flatten(1) / 255, *(y[batch] for y in given))
        optimiser.zero_grad()
        (-terms.log_likelihood[0] + terms.kl).mean().backward()
        optimiser.step()
        assert history.train[name][step] == pytest.approx(terms.kl.mean().item(), rel=1e-4)
    for trained, wanted in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(trained, wanted, rtol=1e-4, atol=1e-6)
    assert all(p.grad is not None and p.grad.any() for p in by_hand.parameters())
    assert history.val[name][-1] == mean_terms(model, IMAGES, *given)[name]

    def evidence() -> float:
        _, p, images = log_densities(kind, copy.deepcopy(model).double())
        return ((p + images).logsumexp(dim=0) + CELL).mean().item()

    before = evidence()
    fit(model, IMAGES, *given, steps=200, batch_size=N, lr=2e-2)
    assert evidence() > before + 2


def test_active_units_see_the_condition():
    """E_q[z] by hand, with the label; and a posterior without a mean is an error that says so."""
    model, given = built("labelled")
    inputs = torch.cat([IMAGES.flatten(1).double() / 255, one_hot(LABELS, 3).double()], dim=1)
    variances = model.encoder.network(inputs)[:, :2].var(dim=0, correction=0)
    got = active_units(model, IMAGES, *given, **FIXED)
    torch.testing.assert_close(got.variances, variances.detach())
    with pytest.raises(NotImplementedError, match="posterior: expected one with a mean, got Flow"):
        active_units(built("flow posterior")[0], IMAGES, **FIXED)


def test_names_say_what_an_estimate_is_given():
    model, given = built("labelled")
    elbo = estimate_elbo(model, IMAGES, *given, **FIXED)
    information = estimate_information(model, IMAGES, *given, **FIXED)
    weighted = estimate_log_likelihood(model, IMAGES, *given, k=2, **FIXED)
    evidence = log_evidence_2d(model, IMAGES, *given, points=51, extent=9.0, **FIXED)
    assert [e.quantity for e in (elbo.log_likelihood, elbo.kl)] == [
        "E_q[log p(x|z, y)]", "KL(q(z|x, y) ‖ p(z|y))",
    ]  # fmt: skip
    assert information.mutual_information.quantity == "I(x; z|y)"
    assert information.marginal_kl.quantity == "KL(q(z|y) ‖ p(z|y))"
    assert weighted.quantity == "importance-weighted log p(x|y), k = 2"
    assert evidence.quantity == "log p(x|y)"


def test_a_flow_whose_kl_is_known_after_all():
    """A flow prior that is a Gaussian in disguise: its KL from samples against the closed form."""

    class Disguised(nn.Module):
        def forward(self):
            base = Independent(Normal(torch.zeros(2).double(), 1.0), 1)
            return TransformedDistribution(base, [ShearAndShift()])

    class ShearAndShift(torch.distributions.transforms.AffineTransform):
        def __init__(self):
            super().__init__(
                torch.tensor([0.3, -0.2]).double(), torch.tensor([1.2, 0.7]).double(), 1
            )

    model = with_random_weights(VAE(2, (5,), D, prior=Disguised()), size=0.3)
    got = estimate_elbo(model, IMAGES, n_samples=4000, **FIXED).kl
    q = model.encode(IMAGES)
    p = Normal(torch.tensor([0.3, -0.2]).double(), torch.tensor([1.2, 0.7]).double())
    truth = torch.distributions.kl_divergence(Normal(q.mean, q.stddev), p).sum(dim=1)
    assert got.quantity.endswith("from samples")
    assert abs(got.value - truth.mean().item()) < 5 * got.error < 0.1
    assert ((got.per_image - truth).abs() < 0.2).all()


# Conditions that can't be right


@pytest.mark.parametrize(
    ("condition", "error", "words"),
    [
        (LABELS[:4], ValueError, r"expected shape \[6, …\].* got an int64 tensor of shape \(4,\)"),
        (torch.tensor(1), ValueError, r"expected shape \[N, …\], got an int64"),
        ([0] * 6, TypeError, "expected an array of numbers, got a list of length 6"),
        (LABELS.numpy().astype("U1"), TypeError, "expected an array of numbers"),
        (LABELS.float() / 0, ValueError, "expected finite values"),
    ],
)
def test_a_condition_that_does_not_fit(condition, error, words):
    model, _ = built("labelled")
    for use in (
        lambda: fit(model, IMAGES, condition, steps=1, batch_size=2),
        lambda: mean_terms(model, IMAGES, condition),
        lambda: estimate_elbo(model, IMAGES, condition, **FIXED),
        lambda: estimate_information(model, IMAGES, condition, **FIXED),
    ):
        with pytest.raises(error, match=f"^condition: {words}"):
            use()


def test_a_condition_for_a_network_that_takes_none():
    model = VAE(2, (5,), D)
    with pytest.raises(TypeError, match="^condition: expected None, for the encoder is an nn.Seq"):
        fit(model, IMAGES, LABELS, steps=1, batch_size=2)
    with pytest.raises(TypeError, match="^condition: expected None, for the decoder is an nn.Seq"):
        model.decode(torch.zeros(6, 2), LABELS)


def test_validation_needs_the_condition_too():
    model, _ = built("labelled")
    with pytest.raises(TypeError, match="^val: expected a pair, images and condition, got a uint8"):
        fit(model, IMAGES, LABELS, val=IMAGES, steps=1, batch_size=2)


@pytest.mark.parametrize("labels", [LABELS.to(torch.uint8), LABELS.numpy().astype(np.int32)])
def test_labels_of_any_integer_type(labels):
    model, _ = built("labelled")
    wanted = estimate_elbo(model, IMAGES, LABELS, **FIXED).elbo.per_image
    assert torch.equal(estimate_elbo(model, IMAGES, labels, **FIXED).elbo.per_image, wanted)
    q = model.encode(IMAGES, labels)
    assert torch.equal(q.mean, model.encode(IMAGES, LABELS).mean)
    fit(model, IMAGES, labels, steps=1, batch_size=2)


def test_a_diagonal_gaussian_of_pytorch_is_a_posterior_too():
    ours = VAE(2, n_pixels=D, posterior=lambda o: diagonal_gaussian(o)).double()
    theirs = copy.deepcopy(ours)
    theirs.posterior = lambda o: Independent(Normal(o[:, :2], (o[:, 2:] / 2).exp()), 1)
    noise = random_numbers(3, N, 2)
    one, other = (elbo_terms(model, IMAGES, noise=noise) for model in (ours, theirs))
    for name in ("z", "log_q", "log_weights", "kl"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name))


def test_a_posterior_that_does_not_fit():
    outputs = mlp(D, 5, 5)
    for posterior, words in (
        (lambda o: diagonal_gaussian(o[:, :2]), r"event shape \(2,\), got \(6,\) and \(1,\)"),
        (lambda o: diagonal_gaussian(o[:1, :4]), r"batch shape \(6,\) .*, got \(1,\) and \(2,\)"),
    ):
        with pytest.raises(ValueError, match=f"^posterior: expected .*{words}"):
            VAE(2, n_pixels=D, encoder=outputs, posterior=posterior).encode(IMAGES)
    plain = VAE(2, n_pixels=D, posterior=lambda o: MultivariateNormal(o[:, :2], torch.eye(2)))
    with pytest.raises(TypeError, match="^encode: expected a posterior with from_noise"):
        elbo_terms(plain, IMAGES)
    with pytest.raises(TypeError, match="^encode: expected a posterior with detached"):
        elbo_terms(built("flow posterior")[0], IMAGES, detach_q=True)


# Images in colour


def test_a_convolutional_vae_of_colour_images(monkeypatch):
    """3 × 32 × 32, with no network built to be thrown away."""
    monkeypatch.setattr(vae_module, "mlp", lambda *sizes: pytest.fail("an MLP was built"))
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Unflatten(1, (3, 32, 32)), nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.Flatten(),
        nn.Linear(4 * 64, 4),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(2, 4 * 64), nn.Unflatten(1, (4, 8, 8)), nn.ConvTranspose2d(4, 3, 4, 4),
        nn.Flatten(),
    )  # fmt: skip
    model = VAE(2, n_pixels=3 * 32 * 32, encoder=encoder, decoder=decoder).double()
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"encoder", "decoder"}
    images, noise = grey(3, 3, 32, 32), random_numbers(1, 3, 2)
    terms = elbo_terms(model, images, noise=noise)
    hidden = nn.functional.conv2d(images, encoder[1].weight, encoder[1].bias, stride=4).relu()
    mean, log_var = encoder[4](hidden.flatten(1)).chunk(2, dim=1)
    code = decoder[0](mean + (log_var / 2).exp() * noise[0]).reshape(3, 4, 8, 8)
    logits = nn.functional.conv_transpose2d(code, decoder[2].weight, decoder[2].bias, stride=4)
    by_hand = -binary_cross_entropy_with_logits(logits, images, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(terms.log_likelihood[0], by_hand)

    model, images = model.float(), (images * 255).to(torch.uint8)
    history = fit(model, images, steps=60, batch_size=3, lr=1e-2)
    assert history.recent("reconstruction", 5) < history.train["reconstruction"][0] - 20
    estimate_elbo(model, images, binarisation="grey")
    drawn = model.decode(model.encode(images).mean).mean
    grid = tile(drawn, 2, shape=(3, 32, 32), gap=0)
    assert grid.shape == (64, 64, 3)
    third = drawn[2].reshape(3, 32, 32).permute(1, 2, 0).detach().numpy()
    np.testing.assert_allclose(grid[32:, :32], third, rtol=1e-6)


# Codes as data


class Frequencies(nn.Module):
    """p(code) = Π softmax(logits of the place): the simplest prior over the choices of a VQ model.

    It has no ``n_pixels``, for its rows aren't images.
    """

    def __init__(self, places: int, choices: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(places, choices))
        self.seen = []

    def loss_terms(self, codes):
        self.seen.append(codes)
        log_p = self.logits.log_softmax(dim=1).expand(len(codes), -1, -1)
        return {"-log p": -log_p.gather(2, codes[..., None]).sum(dim=(1, 2))}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, np.uint8, np.int32])
def test_integer_codes_stay_what_they_are(dtype):
    """Bytes too, which would be pixels to a model of images. The optimum is the entropy."""
    numbers = torch.randint(0, 5, (200, 3), generator=torch.Generator().manual_seed(1))
    codes = numbers * 50  # up to 200
    codes = codes.numpy().astype(dtype) if isinstance(dtype, type) else codes.to(dtype)
    model = Frequencies(3, 256)
    history = fit(model, codes, val=codes, steps=400, batch_size=200, lr=0.1, device="cpu")
    assert history.train["-log p"][0] == pytest.approx(3 * math.log(256), rel=1e-6)
    assert all(batch.dtype == torch.int64 for batch in model.seen)
    order = torch.cat(model.seen[:1]).sort(dim=0).values
    assert torch.equal(order, (numbers * 50).sort(dim=0).values)
    shares = one_hot(numbers, 5).double().mean(dim=0)
    entropy = -(shares * shares.log()).sum().item()
    assert mean_terms(model, codes)["-log p"] == pytest.approx(entropy, abs=0.02)
    assert history.val["-log p"][-1] == mean_terms(model, codes)["-log p"]


def test_float_codes_are_not_pixels_either():
    """A density of codes, beyond [0, 1]: N(μ, 1), whose best μ is the mean."""

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(3))

        def loss_terms(self, codes):
            return {"-log p": (codes - self.mean).square().sum(dim=1) / 2}

    model, codes = Mean(), 3 + 2 * random_numbers(100, 3)
    fit(model, codes, steps=300, batch_size=100, lr=0.1, device="cpu")
    torch.testing.assert_close(model.mean.double(), codes.mean(dim=0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("codes", "error", "words"),
    [
        (torch.full((20, 3), torch.nan), ValueError, "images: expected finite values"),
        (torch.tensor(3), ValueError, r"images: expected shape \[N, …\]"),
        ([[1, 2]], TypeError, "images: expected an array of numbers, got a list"),
        (torch.zeros(0, 3), ValueError, "images: expected at least 1 image, got 0"),
    ],
)
def test_codes_that_can_not_be_right(codes, error, words):
    with pytest.raises(error, match=f"^{words}"):
        fit(Frequencies(3, 4), codes, steps=1, batch_size=1)


def test_codes_are_not_drawn_anew():
    with pytest.raises(ValueError, match="^redraw: expected False for a model without n_pixels"):
        fit(Frequencies(3, 4), torch.zeros(5, 3).long(), steps=1, batch_size=1, redraw=True)


# Parts that give the wrong number of numbers, which broadcasting would hide


class Scalar(Flow):
    """A density summed over everything."""

    def log_prob(self, z):
        return super().log_prob(z).sum()


class OneNoise(Flow):
    def from_noise(self, noise):
        return super().from_noise(noise)[:1]


class Unreduced(nn.Module):
    """N(0, 1) for each unit, which nobody said belong together."""

    def forward(self):
        return Normal(torch.zeros(2), 1.0)


class Several(nn.Module):
    """As many priors as there are images, where one was meant."""

    def forward(self):
        return Independent(Normal(torch.zeros(N, 2), 1.0), 1)


class Pixelwise(nn.Module):
    def forward(self, outputs):
        return torch.distributions.Bernoulli(logits=outputs)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            {"posterior": lambda o: Scalar(diagonal_gaussian(o), mlp(1, 4, 2))},
            r"log q\(z\|x\): .*\(\)",
        ),
        (
            {"posterior": lambda o: OneNoise(diagonal_gaussian(o), mlp(1, 4, 2))},
            "from_noise: expected",
        ),
        (
            {"prior": Unreduced()},
            r"prior: expected batch shape \(\) and event shape \(2,\), got \(2,\)",
        ),
        ({"prior": Several()}, r"prior: expected batch shape \(\) and .* got \(6,\) and \(2,\)"),
        ({"likelihood": Pixelwise()}, r"decoder: expected .* event shape \(\)"),
    ],
)
def test_a_part_that_does_not_give_each_code_a_number(parts, words):
    model = VAE(2, (5,), D, **parts)
    for use in (
        lambda: estimate_elbo(model, IMAGES, **FIXED),
        lambda: estimate_log_likelihood(model, IMAGES, k=500, **FIXED),
        lambda: elbo_terms(model, IMAGES, n_samples=3).log_weights,
    ):
        with pytest.raises(ValueError, match=words):
            use()


def test_a_subclass_of_the_default_posterior_is_another_distribution():
    """Its KL isn't that of its base, nor is a detached copy; PyTorch's registry knows it."""

    class Shifted(type(diagonal_gaussian(torch.zeros(1, 4)))):
        def from_noise(self, noise):
            return 3 * super().from_noise(noise) + 5

        def log_prob(self, z):
            return super().log_prob((z - 5) / 3) - 2 * math.log(3)

    model = VAE(2, (5,), D, posterior=lambda o: Shifted(*o.chunk(2, dim=1))).double()
    terms = elbo_terms(model, IMAGES, noise=random_numbers(20_000, N, 2))
    assert terms.closed_kl is None
    q = model.encode(IMAGES)
    truth = torch.distributions.kl_divergence(
        Normal(3 * q.mean + 5, 3 * q.stddev), Normal(0, 1)
    ).sum(1)
    error = terms.sampled_kl.std(dim=0) / math.sqrt(20_000)
    assert ((terms.kl - truth).abs() < 5 * error).all()
    with pytest.raises(NotImplementedError, match="Shifted has no detached"):
        elbo_terms(model, IMAGES, detach_q=True).log_q  # noqa: B018

    torch.distributions.kl.register_kl(Shifted, type(model.prior()))(
        lambda q, p: q.mean[:, 0] * 0 + 7
    )
    assert (elbo_terms(model, IMAGES).kl == 7).all()


def test_a_likelihood_of_more_numbers_than_pixels():
    """A mean and a width for each pixel: 32 outputs, and log p(x|z) by hand; the grid too."""

    class WithWidths(nn.Module):
        def forward(self, outputs):
            mean, log_sigma = outputs.chunk(2, dim=-1)
            return Independent(Normal(mean, log_sigma.exp()), 1)

    model = VAE(2, n_pixels=D, decoder=mlp(2, 5, 2 * D), likelihood=WithWidths())
    model, noise, x = with_random_weights(model), random_numbers(3, N, 2), grey(N, D)
    terms = elbo_terms(model, x, noise=noise)
    mean, log_sigma = model.decoder(terms.z).chunk(2, dim=-1)
    torch.testing.assert_close(terms.log_likelihood, log_normal(x, mean, (2 * log_sigma).exp()))
    mean, log_sigma = model.decoder(GRID).chunk(2, dim=-1)
    images = log_normal(x, mean[:, None], (2 * log_sigma[:, None]).exp())
    zero, one = torch.zeros(2).double(), torch.ones(2).double()
    truth = (images + log_normal(GRID, zero, one)[:, None]).logsumexp(dim=0) + CELL
    got = log_evidence_2d(model, x, points=181, extent=9.0, binarisation="grey")
    torch.testing.assert_close(got.per_image, truth.detach(), rtol=0, atol=1e-4)


def test_a_grid_must_hold_the_prior():
    class Far(nn.Module):
        """A thousandth around 0, the rest far away."""

        def forward(self):
            bumps = Independent(Normal(torch.tensor([[0.0, 0.0], [20.0, 20.0]]), 1.0), 1)
            return MixtureSameFamily(Categorical(torch.tensor([0.001, 0.999])), bumps)

    class Nothing(nn.Module):
        def forward(self, z):
            return z.new_zeros(len(z), D)

    model = VAE(2, n_pixels=D, prior=Far(), decoder=Nothing())
    with pytest.raises(
        ValueError, match="^extent: expected a grid that holds the whole prior; 0.1%"
    ):
        log_evidence_2d(model, IMAGES, **FIXED)


def test_a_sequential_with_two_inputs_takes_a_condition():
    class Two(nn.Sequential):
        def forward(self, rows, label):
            return super().forward(torch.cat([rows, one_hot(label, 3).to(rows)], dim=1))

    model = VAE(2, n_pixels=D, encoder=Two(mlp(D + 3, 4)), decoder=Two(mlp(2 + 3, D)))
    assert elbo_terms(model, IMAGES, LABELS).kl.shape == (N,)


def test_codes_may_carry_a_graph():
    """Codes of an encoder train the next model, and the encoder stays as it is."""
    vae = VAE(2, (5,), D)
    codes = vae.encode(IMAGES).mean

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(2))

        def loss_terms(self, codes):
            return {"distance": (codes - self.mean).square().sum(dim=1)}

    fit(Mean(), codes, steps=3, batch_size=2)
    assert all(p.grad is None for p in vae.parameters())
