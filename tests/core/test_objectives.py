"""Objectives as functions of model and batch, each a few lines around ``elbo_terms``.

They are written here as a user writes them, trained through ``fit``, and checked against closed
forms, loops by hand, and averages over many draws.
"""

import copy
import math

import pytest
import torch
from torch.distributions import Normal

from small import grey, random_numbers, small_images, with_random_weights
from vae_book.linear import LinearVAE, pca
from vae_core import VAE, elbo_terms, fit, kl, mean_terms, warm_up

IMAGES = small_images(60, binary=False)


def negative_elbo(model, x):
    return {"-ELBO": -elbo_terms(model, x).elbo}


def free_bits(floor):
    """A unit's KL, as a mean over the batch, costs nothing below the floor (Kingma et al., 2016).

    That is a number of the batch, so every image gets the same.
    """

    def loss(model, x):
        terms = elbo_terms(model, x)
        rate = terms.kl_per_unit.mean(dim=0).clamp(min=floor).sum()
        return {"reconstruction": -terms.log_likelihood[0], "KL": rate.expand(len(x))}

    return loss


def importance_weighted(k):
    """The bound of Burda, Grosse and Salakhutdinov (2016)."""

    def loss(model, x):
        log_weights = elbo_terms(model, x, n_samples=k).log_weights
        return {"-bound": math.log(k) - log_weights.logsumexp(dim=0)}

    return loss


def sticking_the_landing(model, x):
    """The ELBO whose gradient leaves out a part that is 0 on average (Roeder et al., 2017)."""
    return {"-ELBO": -elbo_terms(model, x, detach_q=True).log_weights[0]}


def doubly_reparameterised(k):
    """The importance-weighted bound; of its gradient with respect to z, each sample's share is
    squared (Tucker et al., 2019). The decoder's gradient stays as it is."""

    def loss(model, x):
        terms = elbo_terms(model, x, n_samples=k, detach_q=True)
        share = terms.log_weights.detach().softmax(dim=0)  # (k, B)
        if terms.z.requires_grad:
            terms.z.register_hook(lambda slope: slope * share[..., None])
        return {"-bound": math.log(k) - terms.log_weights.logsumexp(dim=0)}

    return loss


def total_correlation(model, x):
    """KL(q(z) ‖ Π q(zᵢ)), with q(z) the mixture of the batch's own posteriors.

    It belongs to the batch, no sum over images, so each image gets the same number: their mean is
    that number, and training descends on it (with the gradient of Chen et al., 2018, whose
    estimate differs by a constant). Its value depends on the number of images. So it is validated
    over all of them at once, ``mean_terms(…, batch_size=len(images))``, and not by ``fit``'s
    ``val``, which takes 1,000 at a time.
    """
    terms = elbo_terms(model, x)
    z, q, log_b = terms.z[0], Normal(terms.q.mean, terms.q.stddev), math.log(len(x))
    pairs = q.log_prob(z[:, None])  # (B, B, d): the codes of one under the posterior of another
    log_q_z = pairs.sum(dim=2).logsumexp(dim=1) - log_b
    log_units = (pairs.logsumexp(dim=1) - log_b).sum(dim=1)
    tc = (log_q_z - log_units).mean()
    return {"-ELBO": -terms.elbo, "TC": tc.expand(len(x))}


LOSSES = {
    "ELBO": negative_elbo,
    "free bits": free_bits(0.1),
    "importance-weighted": importance_weighted(5),
    "STL": sticking_the_landing,
    "DReG": doubly_reparameterised(5),
    "total correlation": total_correlation,
}


def model_and_image() -> tuple[VAE, torch.Tensor]:
    return with_random_weights(VAE(2, (5,), 6)), grey(1, 6)


def slopes(loss, model, x, part: str) -> torch.Tensor:
    """The gradient of the mean loss with respect to all weights of a part."""
    (values,) = loss(model, x).values()
    gradients = torch.autograd.grad(values.mean(), list(getattr(model, part).parameters()))
    return torch.cat([g.flatten() for g in gradients])


def over_draws(loss, model, x, part: str, n: int = 400, copies: int = 50):
    """Mean of the gradient over many draws, and the standard error of it."""
    torch.manual_seed(0)
    x = x.expand(copies, -1)
    draws = torch.stack([slopes(loss, model, x, part) for _ in range(n)])
    return draws.mean(dim=0), draws.std(dim=0) / math.sqrt(n)


@pytest.mark.parametrize("name", LOSSES)
def test_fit_descends_on_it(name):
    """The steps are those of a loop by hand, and the loss falls, on the batch and validated."""
    torch.manual_seed(0)
    model, loss = VAE(2, (8,), 16), LOSSES[name]
    start, by_hand = [], copy.deepcopy(model)

    def noted(model, x):
        start.append(torch.get_rng_state())
        return loss(model, x)

    history = fit(
        model, IMAGES, loss=noted, val=IMAGES[:20], steps=60, batch_size=60, lr=2e-2, seed=3,
        device="cpu",
    )  # fmt: skip
    torch.set_rng_state(start[0])
    order, optimiser = (
        torch.Generator().manual_seed(3),
        torch.optim.Adam(by_hand.parameters(), 2e-2),
    )
    for step in range(3):
        x = IMAGES[torch.randperm(60, generator=order)].flatten(1) / 255
        means = {term: values.mean() for term, values in loss(by_hand, x).items()}
        for term, mean in means.items():
            assert history.train[term][step] == pytest.approx(mean.item(), rel=1e-4)
        optimiser.zero_grad()
        sum(means.values()).backward()
        optimiser.step()
        torch.set_rng_state(start[step + 1])  # of before the next, whatever validation drew
    total = sum(history.train.values())
    assert total[-5:].mean() < total[:5].mean() - 0.2
    validated = {term: values[-1] for term, values in history.val.items()}
    assert validated == mean_terms(model, IMAGES[:20], loss=loss)


def test_beta_with_warm_up_is_a_weight():
    """β min(1, step/4), on the KL alone: the gradient of each step by hand."""
    torch.manual_seed(0)
    model, beta = VAE(2, (8,), 16), 3.0
    by_hand, start = copy.deepcopy(model), []

    def noted(model, x):
        start.append(torch.get_rng_state())
        return model.loss_terms(x)

    weight = {"KL": lambda step: beta * warm_up(4)(step)}
    fit(model, IMAGES, loss=noted, weights=weight, steps=6, batch_size=60, seed=3, device="cpu")
    torch.set_rng_state(start[0])
    order, optimiser = torch.Generator().manual_seed(3), torch.optim.Adam(by_hand.parameters())
    for step in range(6):
        x = IMAGES[torch.randperm(60, generator=order)].flatten(1) / 255
        terms = elbo_terms(by_hand, x)
        optimiser.zero_grad()
        (-terms.log_likelihood[0] + beta * min(1, step / 4) * terms.kl).mean().backward()
        optimiser.step()
    for trained, wanted in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(trained, wanted, rtol=1e-4, atol=1e-6)


def test_free_bits_are_free():
    """A unit below the floor has no gradient of its KL; one above has all of it."""
    model, _ = model_and_image()
    x = grey(7, 6)
    rates = kl_of_units(model, x)
    low, high = rates.min().item(), rates.max().item()
    floor = (low + high) / 2
    term = free_bits(floor)(model, x)["KL"]
    torch.testing.assert_close(term, torch.full((7,), floor + high).double())
    (got,) = torch.autograd.grad(term.mean(), model.encoder[2].bias)
    unit = rates.argmax().item()
    (of_unit,) = torch.autograd.grad(kl_of_units(model, x)[unit], model.encoder[2].bias)
    torch.testing.assert_close(got, of_unit)
    assert got[1 - unit] == 0 and got[unit] != 0


def kl_of_units(model, x):
    mean, log_var = model.encoder(x).chunk(2, dim=1)
    return (mean.square() + log_var.exp() - 1 - log_var).mean(dim=0) / 2


@pytest.mark.parametrize("k", [1, 2, 7])
@pytest.mark.parametrize("loss", [importance_weighted, doubly_reparameterised])
def test_the_bound_is_the_log_of_a_mean_of_weights(loss, k):
    """Image by image and sample by sample; the value is the bound's with either gradient."""
    model, _ = model_and_image()
    x = grey(4, 6)
    torch.manual_seed(1)
    got = loss(k)(model, x)["-bound"]
    torch.manual_seed(1)
    noise = torch.empty(k, 4, 2).double().normal_()
    mean, log_var = model.encoder(x).chunk(2, dim=1)
    for i in range(4):
        weights = []
        for s in range(k):
            z = mean[i] + (log_var[i] / 2).exp() * noise[s, i]
            logits = model.decoder(z)
            log_p = (x[i] * logits - logits.exp().log1p()).sum()
            log_q = Normal(mean[i], (log_var[i] / 2).exp()).log_prob(z).sum()
            weights.append((log_p + Normal(0, 1).log_prob(z).sum() - log_q).exp())
        torch.testing.assert_close(got[i], -torch.stack(weights).mean().log())


def test_at_the_optimum_every_bound_is_the_evidence_and_stl_has_no_noise():
    """With q = p(z|x) all weights are p(x): each sample's gradient is 0, not just their mean."""
    images = grey(40, 5)
    model = LinearVAE.at_optimum(pca(images), 3, sigma_x=0.2)
    evidence = model.evidence.log_prob(images)
    for loss in (sticking_the_landing, importance_weighted(4), doubly_reparameterised(4)):
        (values,) = loss(model, images).values()
        torch.testing.assert_close(values, -evidence, rtol=1e-8, atol=1e-8)
    for loss in (sticking_the_landing, doubly_reparameterised(4)):
        assert slopes(loss, model, images, "encoder").abs().max() < 1e-8
    assert slopes(negative_elbo, model, images, "encoder").abs().max() > 1e-3
    assert slopes(importance_weighted(4), model, images, "encoder").abs().max() > 1e-3


def test_stl_has_the_gradient_of_the_elbo_on_average():
    """Against the ELBO with the KL in closed form; the decoder's is the same anyway."""
    model, x = model_and_image()
    for part in ("encoder", "decoder"):
        truth, error = over_draws(negative_elbo, model, x, part)
        got, its_error = over_draws(sticking_the_landing, model, x, part)
        assert ((got - truth).abs() < 5 * (error + its_error) + 1e-9).all()
        assert (5 * its_error).max() < 0.15 * truth.abs().max()


@pytest.mark.parametrize("k", [2, 5])
def test_dreg_has_the_gradient_of_the_bound_on_average_and_less_noise(k):
    model, x = model_and_image()
    for part in ("encoder", "decoder"):
        truth, error = over_draws(importance_weighted(k), model, x, part)
        got, its_error = over_draws(doubly_reparameterised(k), model, x, part)
        assert ((got - truth).abs() < 5 * (error + its_error) + 1e-9).all()
        assert (5 * its_error).max() < 0.3 * truth.abs().max()
        if part == "encoder":
            assert its_error.norm() < 0.8 * error.norm()


def test_dreg_by_its_formula():
    """Σ w̃² ∂log w/∂z ∂z/∂φ for the encoder, Σ w̃ ∂log w/∂θ for the decoder, by hand."""
    model, k = model_and_image()[0], 3
    x, encoder, decoder = grey(1, 6), [*model.encoder.parameters()], [*model.decoder.parameters()]
    torch.manual_seed(2)
    noise = torch.empty(k, 1, 2).double().normal_()
    terms = elbo_terms(model, x, noise=noise, detach_q=True)
    share = terms.log_weights.detach().softmax(dim=0)
    (at_z,) = torch.autograd.grad(terms.log_weights.sum(), terms.z, retain_graph=True)
    wanted = torch.autograd.grad(terms.z, encoder, share[..., None] ** 2 * at_z, retain_graph=True)
    wanted += torch.autograd.grad((share * terms.log_weights).sum(), decoder)
    torch.manual_seed(2)
    (values,) = doubly_reparameterised(k)(model, x).values()
    got = torch.autograd.grad(-values.sum(), encoder + decoder)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("a", "s"), [(1.0, 1.0), (1.0, 0.5), (0.3, 1.0)])
def test_total_correlation_against_its_closed_form(a, s):
    """Codes a x + s ε in both units, x ~ N(0, 1): correlated by ρ, which costs −½ log(1 − ρ²)."""
    n = 2000
    model = LinearVAE(2, 1).double()
    with torch.no_grad():
        model.encoder[0].weight.copy_(torch.tensor([[a], [a], [0.0], [0.0]]))
        model.encoder[0].bias.copy_(torch.tensor([0.0, 0.0, 2 * math.log(s), 2 * math.log(s)]))
    x = Normal(0, 1).icdf((torch.arange(n).double() + 0.5) / n)[:, None]
    rho = a**2 / (a**2 + s**2)
    got = mean_terms(model, x, loss=total_correlation, batch_size=n)["TC"]
    assert got == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.04)


def test_a_weight_on_the_total_correlation_lowers_it():
    ends, images = [], small_images(6).repeat(10, 1, 1)  # six kinds, to have something to encode
    for weight in (0.0, 20.0):
        torch.manual_seed(0)
        model = VAE(2, (8,), 16)
        options = {"weights": {"TC": weight}, "loss": total_correlation, "seed": 0}
        fit(model, images, steps=300, batch_size=30, lr=2e-2, **options)
        ends.append(mean_terms(model, images, loss=total_correlation, batch_size=60)["TC"])
    assert ends[1] < 0.5 * ends[0] and ends[0] > 0.1


def test_a_detached_q_changes_no_value():
    model, x = model_and_image()
    noise = random_numbers(3, 1, 2)
    plain, detached = (elbo_terms(model, x, noise=noise, detach_q=d) for d in (False, True))
    for name in ("z", "log_q", "log_weights", "elbo", "kl"):
        torch.testing.assert_close(getattr(plain, name), getattr(detached, name))
    torch.testing.assert_close(detached.q.log_var, model.encoder(x)[:, 2:])
    torch.testing.assert_close(detached.q.mean, model.encoder(x)[:, :2])
    torch.testing.assert_close(kl(detached.q, detached.prior), plain.kl)
